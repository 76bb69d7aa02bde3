"""What pruning buys in speed: single layers, whole networks beside other engines, and what each idea adds."""
