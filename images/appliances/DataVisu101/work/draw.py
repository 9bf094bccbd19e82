"""One table, drawn by four libraries into the folder pictures."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import altair
import pandas as pd
import plotly.express
import seaborn
from bokeh.plotting import figure, output_file, save

seats = pd.DataFrame(
    {
        "month": ["Jan", "Feb", "Mar", "Apr", "May", "Jun"] * 2,
        "workshop": ["Docker"] * 6 + ["Spark"] * 6,
        "seats": [20, 24, 31, 28, 35, 40, 8, 12, 15, 22, 30, 33],
    }
)
folder = Path(__file__).parent / "pictures"
folder.mkdir(exist_ok=True)

seaborn.barplot(seats, x="month", y="seats", hue="workshop").figure.savefig(folder / "seaborn.png")
plotly.express.line(seats, x="month", y="seats", color="workshop").write_html(folder / "plotly.html")
altair.Chart(seats).mark_bar().encode(x="month", y="seats", color="workshop").save(folder / "altair.html")
spark = seats[seats.workshop == "Spark"]
drawing = figure(x_range=list(spark.month), title="Seats")
drawing.line(spark.month, spark.seats)
output_file(folder / "bokeh.html")
save(drawing)
print(*sorted(path.name for path in folder.iterdir()))
