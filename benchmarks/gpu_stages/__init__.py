"""The stages of `benchmarks/gpu.py`.

orchestration.py runs stages one after the other, each in a process of its own, and never loses what is done. record.py
and keys.py keep the results and say which are stale; machine.py names the card; stage.py is what a stage works with.
check.py, tables.py (its order is in table_plan.py, its networks in networks.py), voc.py, throughput.py and study.py are
the stages; voc_data.py is what voc and throughput train on, rehearsed.py what stands for a GPU in a rehearsal.
"""
