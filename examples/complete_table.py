"""A table with holes in a scikit-learn pipeline: complete it, scale it, classify its rows.

Half of the measurements of 569 tumours are missing. The imputer has nothing to choose, so the grid
search is over the classifier alone. Each fold fits the imputer on its own training rows, and then
completes the rows held out from it.

Usage: python complete_table.py
"""

from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from virtualdepth.estimators import MatrixCompletion

MISSING = 0.5


def search(imputer: Any, folder: str) -> GridSearchCV:
    # the folder keeps what a fold's imputer did, for all settings of the classifier
    steps = [("impute", imputer), ("scale", StandardScaler()), ("classify", SVC())]
    settings = {"classify__C": [0.1, 1.0, 10.0], "classify__gamma": [0.003, 0.01, 0.03]}
    return GridSearchCV(Pipeline(steps, memory=folder), settings, cv=4)


def main() -> None:
    complete, classes = load_breast_cancer(return_X_y=True)
    hidden = np.random.default_rng(0).random(complete.shape) < MISSING
    table = np.where(hidden, np.nan, complete)
    train, test = train_test_split(np.arange(len(table)), random_state=0)
    imputers = {
        "MatrixCompletion": MatrixCompletion(random_state=0),
        "five neighbours": KNNImputer(),
        "column means": SimpleImputer(),
    }
    for name, imputer in imputers.items():
        begin = process_time()
        with TemporaryDirectory() as folder:
            found = search(imputer, folder).fit(table[train], classes[train])
        seconds = process_time() - begin

        # the rows to test on are new to the imputer too
        filled = found.best_estimator_["impute"].transform(table[test])
        error = ((filled - complete[test]) / complete.std(0))[hidden[test]]
        print(
            f"{name}: error of missing entries {np.sqrt(np.mean(error**2)):.3f} deviations, "
            f"accuracy {found.score(table[test], classes[test]):.3f}, {seconds:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
