"""Small trained networks and the generated data they are measured on: accuracy without a download.

python -m benchmarks.miniatures train                        # nine networks, minutes each on one core, cached
python -m benchmarks.miniatures accuracy --recipe int8
"""
