package org.apache.spark.sql.roundtrip

/** Where the trips of a task begin and end, in metres about the middle of all of them, and between
  * which chords single precision decides.
  */
final class TripPoints(table: TripTable, search: Search) {
  import TripRecords._

  private val n = table.count

  /** Pickup x, y, z, drop-off x, y, z of each trip. */
  val metres = new Array[Float](n * 6)

  /** A longitude (degrees) opposite the middle, where the circle is cut. */
  var seam = 0.0

  /** Squared chords below are surely within the radius, */
  var inside = 0f

  /** and above are surely not. */
  var outside = 0f

  locate()

  private def locate(): Unit = {
    val at = new Array[Double](3)
    val centre = new Array[Double](3)
    val stride = Math.max(1, n / 4096) // a sample: the centre decides only how fine rounding is
    var i = 0
    while (i < n) {
      Sphere.unitVector(table.degrees(i, PickupLat), table.degrees(i, PickupLon), at, 0)
      for (k <- 0 until 3) centre(k) += at(k)
      i += stride
    }
    val seen = Math.max(1, (n + stride - 1) / stride)
    for (k <- 0 until 3) centre(k) /= seen
    seam = Math.toDegrees(Math.atan2(centre(1), centre(0))) - 180
    val x0 = centre(0)
    val y0 = centre(1)
    val z0 = centre(2)
    var extent = 0f
    i = 0
    while (i < n) {
      var half = 0
      while (half < 2) {
        Sphere.unitVector(table.degrees(i, PickupLat + 2 * half), table.degrees(i, PickupLon + 2 * half), at, 0)
        val x = ((at(0) - x0) * Sphere.EarthRadiusM).toFloat
        val y = ((at(1) - y0) * Sphere.EarthRadiusM).toFloat
        val z = ((at(2) - z0) * Sphere.EarthRadiusM).toFloat
        val to = i * 6 + half * 3
        metres(to) = x
        metres(to + 1) = y
        metres(to + 2) = z
        extent = Math.max(extent, Math.max(Math.abs(x), Math.max(Math.abs(y), Math.abs(z))))
        half += 1
      }
      i += 1
    }
    // Each coordinate of a difference is off by at most extent * 2^-23, a chord by sqrt(3) times
    // that; the rest is for the single-precision arithmetic on the difference and for 1 mm as above.
    val chord = search.chordM
    val hair = 2.0 * extent * Math.scalb(1.0, -23) + 2e-3 + 1e-6 * chord
    inside = if (search.everywhere || chord <= hair) 0f else ((chord - hair) * (chord - hair)).toFloat
    outside = if (search.everywhere) Float.PositiveInfinity else ((chord + hair) * (chord + hair)).toFloat
  }
}

object TripPoints {
  /** Copies the six numbers of trip `i` to the place of trip `k`. */
  def copy(from: Array[Float], i: Int, to: Array[Float], k: Int): Unit = {
    val f = i * 6
    val t = k * 6
    to(t) = from(f)
    to(t + 1) = from(f + 1)
    to(t + 2) = from(f + 2)
    to(t + 3) = from(f + 3)
    to(t + 4) = from(f + 4)
    to(t + 5) = from(f + 5)
  }
}
