"""Fine-tunes a causal language model on questions, reasoning traces and answers; a sharded loop behind Ray Train.

Read in this order: ``config`` (the recipe), ``data_config`` and ``samples`` (where traces come from), ``data`` (text to
ids and masks), ``packing``, ``prepare`` and ``look`` (all that before a gang), ``batches`` (who processes what),
``model`` and ``weights``, ``strategy`` (what divides the model: ``fsdp``, ``deepspeed``), ``optimizer``, ``loop`` (the
training itself), ``checkpoint`` (and where it lies, ``checkpoint_files``), ``export``, ``worker`` (all of it, for one
worker), ``gang`` (the workers, on Ray), ``run``, ``__main__`` (the gang of torchrun).
"""
