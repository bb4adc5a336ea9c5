"""How the page of an experiment's curves is laid out in MLflow: one large chart of accuracy, then all others.

Left to itself MLflow gives every metric a chart of the same small size, and shows the first ten runs. What its "share
view" button stores is a tag of the experiment with the page's settings, which a link then names; this is that tag.
The settings are those of MLflow 3.17's page. A version that does not know one of them shows its own layout instead.
"""

from __future__ import annotations

import json

KEY = "curves"
TAG = f"mlflow.sharedViewState.{KEY}"

HEIGHT = 620
"""Pixels of the large chart: as much as a desktop browser shows below the page's head."""

_ACCURACY = {
    "uuid": "accuracy",
    "type": "LINE",
    "metricSectionId": "curves",
    "metricKey": "accuracy",
    "displayName": "accuracy",
    "isGenerated": True,
    "deleted": False,
    "runsCountToCompare": 100,
    "lineSmoothness": 0,
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "range": {},
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
_SECTION = {"display": True, "isReordered": True, "deleted": False}

STATE = json.dumps(
    {
        "compareRunCharts": [_ACCURACY],
        "compareRunSections": [
            {**_SECTION, "uuid": "curves", "name": "Curves", "isGenerated": False, "columns": 1, "cardHeight": HEIGHT},
            {**_SECTION, "uuid": "metrics", "name": "Model metrics", "isGenerated": True},
        ],
        "isAccordionReordered": True,
        "runsHiddenMode": "SHOWALL",
    }
)


def address(server: str, experiment_id: str) -> str:
    """The page on the server at `server`. MLflow opens an experiment as one of LLM traces unless told otherwise."""
    asked = f"workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey={KEY}"
    return f"{server}/#/experiments/{experiment_id}/runs?{asked}"
