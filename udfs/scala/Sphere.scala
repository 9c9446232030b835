package org.apache.spark.sql.roundtrip

/** The sphere of udfs/geometry.py on the JVM: distances, points and bands of latitude. */
object Sphere {
  val EarthRadiusM = 6371000.0

  /** Great-circle distance in metres between two points in degrees.
    *
    * The same operations in the same order as `haversine_m` of udfs/geometry.py in Spark's generated
    * code, so the same double to the last bit.
    */
  def haversineM(lat1: Double, lon1: Double, lat2: Double, lon2: Double): Double =
    haversineM(lat1, lon1, cosine(lat1), lat2, lon2, cosine(lat2))

  /** The same with the cosines of both latitudes at hand, as `cosine` gives them. */
  def haversineM(lat1: Double, lon1: Double, cos1: Double, lat2: Double, lon2: Double, cos2: Double)
      : Double = {
    val sinLat = Math.sin(Math.toRadians(lat2 - lat1) / 2)
    val sinLon = Math.sin(Math.toRadians(lon2 - lon1) / 2)
    val h = sinLat * sinLat + cos1 * cos2 * sinLon * sinLon
    val root = Math.sqrt(h)
    2 * EarthRadiusM * Math.asin(if (root > 1.0) 1.0 else root)
  }

  def cosine(lat: Double): Double = Math.cos(Math.toRadians(lat))

  private val StepsPerDegree = 4
  private val sines =
    Array.tabulate(360 * StepsPerDegree + 1)(i => Math.sin(Math.toRadians(i.toDouble / StepsPerDegree - 180)))
  private val cosines =
    Array.tabulate(360 * StepsPerDegree + 1)(i => Math.cos(Math.toRadians(i.toDouble / StepsPerDegree - 180)))

  /** The cosine of a latitude, likewise within 1e-14. */
  def nearCosine(lat: Double): Double = {
    val i = Math.rint(lat * StepsPerDegree).toInt
    val x = Math.toRadians(lat - i.toDouble / StepsPerDegree)
    val at = i + 180 * StepsPerDegree
    cosines(at) * (1 - x * x * (0.5 - x * x * (1.0 / 24 - x * x / 720))) -
      sines(at) * (x - x * x * x * (1.0 / 6 - x * x / 120))
  }

  /** Puts the unit vector of a point in degrees at `out(at) .. out(at + 2)`.
    *
    * From a table of every quarter degree and the first terms of the series between; within 1e-14,
    * four times faster than Math.sin. For tests that are repeated exactly where they are in doubt.
    */
  def unitVector(lat: Double, lon: Double, out: Array[Double], at: Int): Unit = {
    val round = lon - 360 * Math.rint(lon / 360)
    val i = (Math.rint(lat * StepsPerDegree)).toInt
    val j = (Math.rint(round * StepsPerDegree)).toInt
    val x = Math.toRadians(lat - i.toDouble / StepsPerDegree)
    val y = Math.toRadians(round - j.toDouble / StepsPerDegree)
    val sx = x - x * x * x * (1.0 / 6 - x * x / 120)
    val sy = y - y * y * y * (1.0 / 6 - y * y / 120)
    val cx = 1 - x * x * (0.5 - x * x * (1.0 / 24 - x * x / 720))
    val cy = 1 - y * y * (0.5 - y * y * (1.0 / 24 - y * y / 720))
    val sinI = sines(i + 180 * StepsPerDegree)
    val cosI = cosines(i + 180 * StepsPerDegree)
    val sinJ = sines(j + 180 * StepsPerDegree)
    val cosJ = cosines(j + 180 * StepsPerDegree)
    val cosLat = cosI * cx - sinI * sx
    out(at) = cosLat * (cosJ * cy - sinJ * sy)
    out(at + 1) = cosLat * (sinJ * cy + cosJ * sy)
    out(at + 2) = sinI * cx + cosI * sx
  }
}

/** What "closer than the radius, within the window" means for searches that must lose nothing.
  *
  * @param radiusM radius in metres, above 0
  * @param windowUs window in microseconds, above 0
  */
final class Search(val radiusM: Double, val windowUs: Long) extends Serializable {
  private val angle = radiusM / Sphere.EarthRadiusM

  /** Whether every two points are closer than the radius, rounding aside. */
  val everywhere: Boolean = angle >= Math.PI

  /** Radius in radians for choosing cells: a hair more than the radius. The millimetre covers the
    * rounding of longitudes of up to a million degrees.
    */
  val wideAngle: Double = Math.min(angle * (1 + 1e-6) + 1e-3 / Sphere.EarthRadiusM, Math.PI)
  val wideDegrees: Double = Math.toDegrees(wideAngle)

  /** sin^2 of half the wide angle, as the haversine formula has it. */
  val wideHaversine: Double = Math.sin(wideAngle / 2) * Math.sin(wideAngle / 2)

  /** Straight line in metres between two points as far apart as the radius. */
  val chordM: Double = if (everywhere) 2 * Sphere.EarthRadiusM else 2 * Sphere.EarthRadiusM * Math.sin(angle / 2)

  /** The same on the unit sphere, for the wide angle. */
  val wideChord: Double = 2 * Math.sin(wideAngle / 2)
}

/** Bands of latitude `height` degrees high from `south` up to `north`. */
final class Bands(val south: Double, north: Double, val height: Double) {
  val count: Int = ((north - south) / height).toInt + 1

  // The least cosine of any latitude in the band, a hair less against rounding.
  private val leastCosine = Array.tabulate(count) { i =>
    val far = Math.max(Math.abs(south + i * height), Math.abs(south + (i + 1) * height)) + 1e-9
    if (far >= 90) 0.0 else Math.cos(Math.toRadians(far))
  }

  /** The band that holds `lat`, or the nearest one. Never falls where `lat` rises. */
  def of(lat: Double): Int = {
    val row = Math.floor((lat - south) / height)
    if (row <= 0) 0 else if (row >= count) count - 1 else row.toInt
  }

  /** Half the longitudes, as a share of the circle, that the disc of the search round a point at
    * `lat` touches within a band: 0.5 where that may be the whole circle, negative where none.
    *
    * The haversine formula, solved for the longitude with the band's nearest latitude and least
    * cosine: sin^2(dlon/2) <= (sin^2(r/2) - sin^2(dlat/2)) / (cos(lat) cos(band)). The arcsine is
    * bounded by asin(x) <= x + 0.571 x^3, which holds on all of [0, 1].
    */
  def halfTurn(row: Int, lat: Double, cosLat: Double, search: Search): Double = {
    val low = south + row * height
    val high = low + height
    val away = (if (lat < low) low - lat else if (lat > high) lat - high else 0.0) - 1e-9
    var left = search.wideHaversine
    if (away > 0) {
      val half = away * (Math.PI / 360)
      val sine = if (half < 1e-3) half * (1 - half * half / 6) else Math.sin(half)
      left -= sine * sine
    }
    if (left < 0) -1.0
    else {
      val under = cosLat * leastCosine(row)
      if (left >= under) 0.5
      else {
        val x = Math.sqrt(left / under)
        Math.min((x + 0.571 * x * x * x) * ((1 + 1e-9) / Math.PI) + 1e-12, 0.5)
      }
    }
  }
}
