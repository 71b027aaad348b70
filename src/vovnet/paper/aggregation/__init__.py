"""The paper's study of aggregation (§3.1–3.2, Figure 2) on CIFAR-10: `vovnet study aggregation`.

config.py says what is trained, training.py trains one network, study.py all of them. connections.py says in numbers how
strongly trained layers use earlier ones, and figure2.py draws it.
"""
