"""The data plane: what runs on the cluster. One package per kind of step.

A kind is a package ``jobs.<kind>`` with two modules:

``config.py``
    ``Config``, a :class:`orchestrator.job.config.StepConfig`. It must import in milliseconds: no torch, ray, vllm or
    transformers, because every experiment file is checked against it before anything heavy is loaded.
``run.py``
    ``run(config, context)``, called once in a Ray worker process. What it writes under ``context.output`` is the
    step's result; returning means done.

A kind may have more:

``compare.py``
    ``compare(first, second, points)``, an :class:`orchestrator.job.record.Comparer`: two of its results against each
    other.
``report.py``, or a package
    ``write(steps, request)``, an :class:`orchestrator.job.record.ReportWriter`: one page on finished steps of the kind.
"""
