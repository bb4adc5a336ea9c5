"""Fine-tunes a causal language model on questions, reasoning traces and answers; a sharded loop behind Ray Train.

Read in this order: ``config`` (the recipe), ``data_config`` and ``samples`` (where traces come from), ``data`` (text to
ids and masks), ``packing``, ``prepare`` and ``look`` (all that before a gang), ``batches`` (who processes what),
``model``, ``fsdp`` (how it is sharded), ``optimizer``, ``loop`` (the training itself), ``checkpoint``, ``export``,
``run`` (the gang on Ray).
"""
