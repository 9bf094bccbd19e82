"""Train a forest of decision trees on three kinds of iris, and ask it about flowers that it has not seen."""

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

iris = load_iris(as_frame=True)
train, test, train_kind, test_kind = train_test_split(
    iris.data, iris.target, test_size=0.3, random_state=1, stratify=iris.target
)
forest = RandomForestClassifier(n_estimators=50, random_state=1).fit(train, train_kind)
accuracy = accuracy_score(test_kind, forest.predict(test))
print(f"{accuracy:.0%} of {len(test)} flowers that it had never seen are named right.")
