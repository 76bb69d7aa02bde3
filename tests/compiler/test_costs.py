"""Multiply-accumulates of graphs."""

from __future__ import annotations

import torch
from torch import nn

import tapdot
from tapdot.compiler.costs import graph_macs, node_macs


def test_a_graph_costs_what_its_nodes_cost() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 5 * 5, 10))
    graph = tapdot.trace(module, torch.zeros(1, 3, 5, 5))
    counts = {node.op: node_macs(graph, node) for node in graph.nodes}
    assert counts["Conv"] == 8 * 5 * 5 * 3 * 9
    assert counts["Gemm"] == 8 * 5 * 5 * 10
    assert counts["Relu"] == 0
    assert graph_macs(graph) == sum(counts.values())
