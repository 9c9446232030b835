package org.apache.spark.sql.roundtrip

/** Inbound trips in the order of their keys. */
final class SortedInbound(val keys: Array[Long], val trips: Array[Int], val points: Array[Float], val times: Array[Long])

/** The trips of one slab of time, copied out of the order of all into small arrays that stay in the
  * cache, and the cells in which its inbound trips begin.
  *
  * @param mostOutbound trips of the largest slab, by role
  */
final class Slab(table: TripTable, grid: SortKeys, mostOutbound: Int, mostInbound: Int) {
  import TripRecords._

  // Outbound trips: points as in TripPoints, latitude and turn of both ends, drop-off times.
  val outboundPoints = new Array[Float](mostOutbound * 6)
  val outboundPlaces = new Array[Double](mostOutbound * 4)
  val outboundTimes = new Array[Long](mostOutbound)

  // Inbound trips: points, keys below the cell, pickup times, numbers in the table.
  val points = new Array[Float](mostInbound * 6)
  val keys = new Array[Int](mostInbound)
  val times = new Array[Long](mostInbound)
  val trips = new Array[Int](mostInbound)
  var directory = new CellDirectory(16, 16)

  /** Copies the outbound trips `order(from) until order(end)`. */
  def copyOutbound(all: Array[Float], order: Array[Int], from: Int, end: Int): Unit = {
    var k = 0
    while (k < end - from) {
      val trip = order(from + k)
      TripPoints.copy(all, trip, outboundPoints, k)
      outboundPlaces(k * 4) = table.degrees(trip, PickupLat)
      outboundPlaces(k * 4 + 1) = grid.turn(table.degrees(trip, PickupLon))
      outboundPlaces(k * 4 + 2) = table.degrees(trip, DropoffLat)
      outboundPlaces(k * 4 + 3) = grid.turn(table.degrees(trip, DropoffLon))
      outboundTimes(k) = table.words(trip * Words + Dropoff)
      k += 1
    }
  }

  /** Copies the inbound trips at `order(from) until order(end)` and lists their cells. */
  def copyInbound(sorted: SortedInbound, order: Array[Int], from: Int, end: Int): Unit = {
    val count = end - from
    val mask = (1L << grid.belowCell) - 1
    var distinct = 0
    var before = -1L
    var k = 0
    while (k < count) {
      val at = order(from + k)
      val key = sorted.keys(at)
      TripPoints.copy(sorted.points, at, points, k)
      keys(k) = (key & mask).toInt
      times(k) = sorted.times(at)
      trips(k) = sorted.trips(at)
      if ((key >>> grid.belowCell) != before) {
        before = key >>> grid.belowCell
        distinct += 1
      }
      k += 1
    }
    directory = directory.emptied(distinct, count)
    listCells(sorted.keys, order, from, count)
  }

  private def listCells(all: Array[Long], order: Array[Int], from: Int, count: Int): Unit = {
    var before = -1L
    var start = 0
    var k = 0
    while (k <= count) {
      val cell = if (k == count) -1L else all(order(from + k)) >>> grid.belowCell
      if (cell != before) {
        if (k > 0) directory.put(before, start, k, keys, grid.lonBits)
        before = cell
        start = k
      }
      k += 1
    }
  }
}
