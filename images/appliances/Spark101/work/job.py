"""Count words, and average a hundred thousand trips by weekday: `spark-submit job.py`."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

spark = SparkSession.builder.appName("first-steps").getOrCreate()

text = spark.createDataFrame([("a rose is a rose is a rose",), ("a ship in port is safe",)], ["line"])
text.select(F.explode(F.split("line", " ")).alias("word")).groupBy("word").count().orderBy(
    F.desc("count"), "word"
).show(3)
trips = spark.range(100_000).select(
    (F.col("id") % 7).alias("weekday"),
    (10 + F.col("id") % 7 + F.rand(seed=1) * 20).alias("minutes"),
)
trips.groupBy("weekday").agg(
    F.count("*").alias("trips"), F.round(F.avg("minutes"), 1).alias("minutes")
).orderBy("weekday").show()
spark.stop()
