package org.apache.spark.sql.roundtrip

/** Where the trips of a task are sorted to and looked for: cells for the end at which two trips of a
  * pair meet, bands and steps of longitude for the other.
  *
  * A key is cell row, cell column, band, step, from the highest bits to the lowest. Latitude does not
  * matter: a band near a pole has few cells, and longitude is a circle that starts at `seam`, opposite
  * the middle of the trips. `south` and `north` are the least and the greatest latitude of any end.
  */
final class SortKeys(table: TripTable, search: Search, seam: Double, south: Double, north: Double) {
  import TripRecords._

  val cells = new Bands(south, north, height(SortKeys.CellRadii, SortKeys.leastCell))
  val bands = new Bands(south, north, height(SortKeys.BandRadii, SortKeys.leastBand))

  /** Cells round the circle, by cell row. */
  val cellsRound: Array[Int] = Array.tabulate(cells.count) { i =>
    val middle = Math.toRadians(cells.south + (i + 0.5) * cells.height)
    Math.max(1, Math.floor(360 / cells.height * Math.cos(middle)).toInt)
  }

  /** The columns in which inbound trips begin. */
  var firstCol = 0
  var lastCol = 0

  // The part of the circle in which inbound trips end, which the steps divide.
  private var turnFrom = 0.0
  private var turnTo = 0.0
  measureColumns()
  private val colBits = SortKeys.bits(lastCol - firstCol)
  private val bandBits = SortKeys.bits(bands.count - 1)
  val lonBits: Int = Math.min(31 - bandBits, 14)
  val lastStep: Int = (1 << lonBits) - 1
  private val steps = if (turnTo > turnFrom) lastStep / (turnTo - turnFrom) else 0.0

  /** Bits below those of the cell, and bits in all. */
  val belowCell: Int = bandBits + lonBits
  val bits: Int = SortKeys.bits(cells.count - 1) + colBits + belowCell

  /** The key of an outbound trip: that of the inbound trips that it may find. */
  def ofOutbound(i: Int): Long = {
    val row = cells.of(table.degrees(i, DropoffLat))
    val col = column(row, turn(table.degrees(i, DropoffLon)))
    val near = Math.max(firstCol, Math.min(lastCol, col))
    val along = Math.max(0, Math.min(lastStep, step(turn(table.degrees(i, PickupLon)))))
    (cell(row, near) << bandBits | bands.of(table.degrees(i, PickupLat)).toLong) << lonBits | along
  }

  def ofInbound(i: Int): Long = {
    val row = cells.of(table.degrees(i, PickupLat))
    val place = cell(row, column(row, turn(table.degrees(i, PickupLon))))
    val along = Math.min(lastStep, step(turn(table.degrees(i, DropoffLon))))
    (place << bandBits | bands.of(table.degrees(i, DropoffLat)).toLong) << lonBits | along
  }

  def cell(row: Int, col: Int): Long = row.toLong << colBits | (col - firstCol).toLong

  /** A longitude as the share of the circle from the seam on. */
  def turn(lon: Double): Double = {
    val x = (lon - seam) / 360
    val share = x - Math.floor(x)
    if (share >= 1) 0.0 else share
  }

  def step(turned: Double): Int = Math.floor((turned - turnFrom) * steps).toInt

  private def column(row: Int, turned: Double): Int =
    Math.min((turned * cellsRound(row)).toInt, cellsRound(row) - 1)

  private def height(radii: Double, least: Double): Double =
    Math.min(Math.max(search.wideDegrees * radii, least), 180)

  private def measureColumns(): Unit = {
    var low = Int.MaxValue
    var high = Int.MinValue
    var from = 1.0
    var to = 0.0
    var i = 0
    while (i < table.count) {
      if (table.isInbound(i)) {
        val col = column(cells.of(table.degrees(i, PickupLat)), turn(table.degrees(i, PickupLon)))
        low = Math.min(low, col)
        high = Math.max(high, col)
        val t = turn(table.degrees(i, DropoffLon))
        from = Math.min(from, t)
        to = Math.max(to, t)
      }
      i += 1
    }
    if (low <= high) {
      firstCol = low
      lastCol = high
      turnFrom = from
      turnTo = to
    }
  }
}

object SortKeys {
  /** Shape of cells and bands, in radii and at least so many degrees; measured on 24 real days. */
  private val CellRadii: Double = 2
  private val BandRadii: Double = 1
  private val leastCell: Double = Math.toDegrees(400 / Sphere.EarthRadiusM)
  private val leastBand: Double = Math.toDegrees(200 / Sphere.EarthRadiusM)

  private def bits(largest: Int): Int = 32 - Integer.numberOfLeadingZeros(largest)
}
