package org.apache.spark.sql.roundtrip

import org.apache.spark.sql.SparkSessionExtensions
import org.apache.spark.sql.catalyst.FunctionIdentifier
import org.apache.spark.sql.catalyst.analysis.FunctionRegistry
import org.apache.spark.sql.catalyst.expressions.{Expression, ExpressionInfo}
import org.apache.spark.sql.catalyst.expressions.objects.StaticInvoke
import org.apache.spark.sql.errors.QueryCompilationErrors
import org.apache.spark.sql.types.{DataType, DoubleType, LongType, StructField, StructType}

/** Adds the functions of udfs/geometry.py to SQL, under the same names.
  *
  * `spark.sql.extensions=org.apache.spark.sql.roundtrip.RoundtripExtensions`, beside any others. Each
  * function is a static call in Spark's generated code, is NULL where an argument is NULL, and has
  * its text in `DESCRIBE FUNCTION EXTENDED`.
  */
class RoundtripExtensions extends (SparkSessionExtensions => Unit) {
  override def apply(extensions: SparkSessionExtensions): Unit =
    SqlFunctions.all.foreach(f => extensions.injectFunction((FunctionIdentifier(f.name), f.info, f.build)))
}

/** One SQL function: the method of `Cells` behind it, and its documentation.
  *
  * @param arguments names, types and descriptions
  * @param example arguments of a call and what it returns
  */
final case class SqlFunction(
    name: String,
    method: String,
    result: DataType,
    arguments: Seq[(String, DataType, String)],
    usage: String,
    example: (String, String)) {

  def build(actual: Seq[Expression]): Expression = {
    if (actual.length != arguments.length)
      throw QueryCompilationErrors.wrongNumArgsError(name, Seq(arguments.length), actual.length)
    StaticInvoke(
      Cells.getClass, result, method, actual, arguments.map(_._2), propagateNull = true, returnNullable = false)
  }

  def info: ExpressionInfo = {
    val signature = arguments.map(_._1).mkString(", ")
    val described = arguments.map { case (n, t, text) => s"\n      * $n - $text (${t.sql.toLowerCase})" }.mkString
    new ExpressionInfo(
      Cells.getClass.getName.stripSuffix("$"), null, name, s"_FUNC_($signature) - $usage",
      s"\n    Arguments:$described\n  ",
      s"\n    Examples:\n      > SELECT _FUNC_(${example._1});\n       ${example._2}\n  ",
      "", "math_funcs", "0.1.0", "", "scala_udf")
  }
}

object SqlFunctions {
  /** Adds the functions to a session that was opened without the extension. */
  def addTo(registry: FunctionRegistry): Unit =
    all.foreach(f => registry.registerFunction(FunctionIdentifier(f.name), f.info, f.build _))

  private val lat = ("lat", DoubleType, "latitude in degrees")
  private val lon = ("lon", DoubleType, "longitude in degrees")
  private val radius = ("radius_m", DoubleType, "radius of a disc in metres")
  private val side = ("side_m", DoubleType, "side of a cell in metres")
  private val row = ("lat_idx", LongType, "latitude index of a row of cells")
  private val round = ("cells_round", LongType, "cells round the circle in that row")
  private val range = StructType(
    Seq(StructField("first", LongType, nullable = false), StructField("last", LongType, nullable = false)))

  val all: Seq[SqlFunction] = Seq(
    SqlFunction(
      "haversine_m", "haversine", DoubleType,
      Seq(
        ("lat_1", DoubleType, "latitude of the first point in degrees"),
        ("lon_1", DoubleType, "its longitude"),
        ("lat_2", DoubleType, "latitude of the second point"),
        ("lon_2", DoubleType, "its longitude")),
      "Great-circle distance in metres on a sphere of radius 6371000 m.",
      ("0, 0, 0, 180", "2.001508679602057E7")),
    SqlFunction(
      "lat_degrees", "latDegrees", DoubleType, Seq(("length_m", DoubleType, "length in metres")),
      "Degrees of latitude that a length along a meridian spans.", ("0", "0.0")),
    SqlFunction(
      "widened_m", "widenedM", DoubleType, Seq(radius),
      "The radius that a search must use so that rounding loses nothing.", ("0", "1.0E-6")),
    SqlFunction(
      "lon_half_width_degrees", "lonHalfWidthDegrees", DoubleType, Seq(lat, radius),
      "Half the longitude range of a disc in degrees; 180 where the disc holds a pole.", ("90, 1", "180.0")),
    SqlFunction(
      "lat_idx", "latIdx", LongType, Seq(lat, side),
      "Index of the row of cells that holds a latitude, from 0 at the south pole.", ("-90, 100", "0")),
    SqlFunction(
      "lat_idx_range", "latIdxRange", range, Seq(lat, radius, side),
      "First and last row of cells that a disc touches.", ("-90, 50, 100", "{\"first\":0,\"last\":0}")),
    SqlFunction(
      "cells_round", "cellsRound", LongType, Seq(row, side),
      "How many cells stand round the circle in a row of cells, at least 1.", ("0, 20000000", "2")),
    SqlFunction(
      "lon_idx", "lonIdx", LongType, Seq(lon, round),
      "Index of the cell that holds a longitude, eastwards from the antimeridian.", ("-180, 10", "0")),
    SqlFunction(
      "lon_idx_range", "lonIdxRange", range, Seq(lat, lon, radius, round),
      "First and last longitude index of a disc before wrapping: take each modulo cells_round.",
      ("90, 0, 1, 4", "{\"first\":0,\"last\":3}")),
    SqlFunction(
      "cell_id", "cellId", LongType, Seq(row, ("lon_idx", LongType, "longitude index of a cell")),
      "One 64-bit id of a cell.", ("1, 2", "4294967298")),
    SqlFunction(
      "cell_of", "cellOf", LongType, Seq(lat, lon, side),
      "Id of the cell that holds a point.", ("-90, -180, 100", "0")))
}
