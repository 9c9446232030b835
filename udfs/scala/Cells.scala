package org.apache.spark.sql.roundtrip

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.GenericInternalRow

/** The functions of udfs/geometry.py, operation for operation, so that each gives the same bits.
  *
  * Latitudes and longitudes in degrees, lengths in metres. Spark calls them from generated code.
  */
object Cells {
  private val LonBits = 32
  private val WidenShare = 1e-6
  private val WidenM = 1e-6

  def haversine(lat1: Double, lon1: Double, lat2: Double, lon2: Double): Double =
    Sphere.haversineM(lat1, lon1, lat2, lon2)

  def latDegrees(lengthM: Double): Double = Math.toDegrees(lengthM / Sphere.EarthRadiusM)

  def widenedM(radiusM: Double): Double = radiusM * (1 + WidenShare) + WidenM

  def lonHalfWidthDegrees(lat: Double, radiusM: Double): Double = {
    val angle = radiusM / Sphere.EarthRadiusM
    if (angle >= Math.PI / 2 || Math.abs(Math.toRadians(lat)) + angle >= Math.PI / 2) 180.0
    else Math.toDegrees(Math.asin(Math.min(Math.sin(angle) / Sphere.cosine(lat), 1.0)))
  }

  def latIdx(lat: Double, sideM: Double): Long = floor((lat + 90.0) / latDegrees(sideM))

  def latIdxRange(lat: Double, radiusM: Double, sideM: Double): InternalRow = {
    val reach = latDegrees(widenedM(radiusM))
    range(
      Math.max(latIdx(lat - reach, sideM), 0L),
      Math.min(latIdx(lat + reach, sideM), floor(180.0 / latDegrees(sideM))))
  }

  def cellsRound(latIdx: Long, sideM: Double): Long = {
    val side = latDegrees(sideM)
    val middle = Math.toRadians((latIdx + 0.5) * side - 90.0)
    Math.max(floor(360.0 / side * Math.cos(middle)), 1L)
  }

  def lonIdx(lon: Double, round: Long): Long = Math.floorMod(floor(turn(lon) * round), round)

  def lonIdxRange(lat: Double, lon: Double, radiusM: Double, round: Long): InternalRow = {
    val half = lonHalfWidthDegrees(lat, widenedM(radiusM)) / 360.0
    val first = floor((turn(lon) - half) * round)
    range(first, Math.min(floor((turn(lon) + half) * round), first + round - 1))
  }

  def cellId(latIdx: Long, lonIdx: Long): Long = latIdx << LonBits | lonIdx

  def cellOf(lat: Double, lon: Double, sideM: Double): Long = {
    val row = latIdx(lat, sideM)
    cellId(row, lonIdx(lon, cellsRound(row, sideM)))
  }

  private def floor(x: Double): Long = Math.floor(x).toLong

  private def turn(lon: Double): Double = {
    val rest = (lon + 180.0) % 360.0
    (if (rest < 0) (rest + 360.0) % 360.0 else rest) / 360.0
  }

  private def range(first: Long, last: Long): InternalRow = new GenericInternalRow(Array[Any](first, last))
}
