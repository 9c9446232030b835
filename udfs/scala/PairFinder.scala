package org.apache.spark.sql.roundtrip

import java.util.Arrays

/** All pairs among the trips of one task, a batch at a time.
  *
  * Inbound trips are sorted once by (cell of the pickup, band of the drop-off, longitude of the
  * drop-off), outbound trips by the places where they look. Time is cut into slabs of half a window;
  * for each, the inbound trips in reach are copied out of the sorted order into small arrays that
  * stay in the cache. An outbound trip visits the cells near its drop-off and, in each, the
  * stretches of longitude near its pickup, each as wide as the disc is in that band. Distances are
  * tested as chords in single precision about the centre of all points; only what lies within the
  * rounding error of the radius is decided by the haversine, and the haversine alone decides it.
  *
  * Latitude does not matter: a band near a pole has few cells, a disc over a pole spans the circle,
  * and longitude is a circle that starts opposite the centre of the points.
  *
  * Memory: 57 bytes a trip for the table, 24 for its points, 24 while sorting; for an inbound trip
  * 44 in sorted order and 4 for each slab in its reach (three, mostly), 4 for an outbound one; and for
  * the slab at hand 100 for each of its trips. About 200 bytes a trip in all, 160 MB for a tile of
  * `Tiles.MostTrips`.
  */
final class PairFinder(table: TripTable, search: Search) {
  import TripRecords._

  /** Pairs of the last batch: record numbers in the table, outbound and inbound. */
  var outbound = new Array[Int](PairFinder.Batch * 2)
  var inbound = new Array[Int](PairFinder.Batch * 2)
  var found = 0

  private val words = table.words
  private val n = table.count

  def word(record: Int, word: Int): Long = words(record * Words + word)

  private val places = new TripPoints(table, search)
  private val points = places.metres
  private val inside = places.inside
  private val outside = places.outside

  private val (south, north, first, last) = bounds()
  private val grid = new SortKeys(table, search, places.seam, south, north)

  // Slabs of time; few trips over a long time get longer ones.
  private val slabUs =
    Math.max(Math.max(1L, search.windowUs / PairFinder.SlabsPerWindow), (last - first) / (4L * n + 4) + 1)
  private val slabs = ((last - first) / slabUs + 1).toInt
  private val outboundFrom = new Array[Int](slabs + 1) // where a slab's trips start in outboundOrder
  private val inboundFrom = new Array[Int](slabs + 1) // likewise, positions in the sorted order
  private val outboundOrder = sortOutbound()
  private val (sorted, inboundOrder) = sortInbound()

  // The slab at hand, its number, and which of its outbound trips are still to come.
  private val slab = new Slab(table, grid, longest(outboundFrom), longest(inboundFrom))
  private var number = -1
  private var next = 0
  private var end = 0
  private var stretchLow = new Array[Int](16)
  private var stretchHigh = new Array[Int](16)
  private var stretches = 0

  /** Finds the next batch of pairs; false where there are no more. */
  def advance(): Boolean = {
    found = 0
    while (found < PairFinder.Batch) {
      if (next == end && !openSlab()) return found > 0
      look(next - outboundFrom(number), outboundOrder(next))
      next += 1
    }
    true
  }

  private def bounds(): (Double, Double, Long, Long) = {
    var low = 90.0
    var high = -90.0
    var from = Long.MaxValue
    var to = Long.MinValue
    var i = 0
    while (i < n) {
      val p = table.degrees(i, PickupLat)
      val d = table.degrees(i, DropoffLat)
      low = Math.min(low, Math.min(p, d))
      high = Math.max(high, Math.max(p, d))
      val pickup = words(i * Words + Pickup)
      val dropoff = words(i * Words + Dropoff)
      // Only what a role uses counts: a trip of years must not stretch the time.
      if (table.isOutbound(i)) { from = Math.min(from, dropoff); to = Math.max(to, dropoff) }
      i += 1
    }
    if (from > to) (low, Math.max(low, high), 0L, 0L) else (low, high, from, to)
  }

  private def longest(from: Array[Int]): Int = {
    var longest = 0
    var k = 0
    while (k < slabs) {
      longest = Math.max(longest, from(k + 1) - from(k))
      k += 1
    }
    longest
  }

  private def slabOf(time: Long): Int = ((time - first) / slabUs).toInt

  // An inbound trip is in reach of drop-offs in [pickup - window + 1, pickup - 1].
  private def firstSlab(pickup: Long): Int = {
    val from = pickup - search.windowUs + 1
    if (from <= first) 0 else Math.min((from - first) / slabUs, slabs).toInt
  }
  private def lastSlab(pickup: Long): Int =
    if (pickup <= first) -1 else Math.min((pickup - 1 - first) / slabUs, slabs - 1).toInt

  private def sortOutbound(): Array[Int] = {
    val count = countRole(Outbound)
    val keys = new Array[Long](count)
    val trips = new Array[Int](count)
    var i = 0
    var k = 0
    while (i < n) {
      if (table.isOutbound(i)) {
        keys(k) = grid.ofOutbound(i)
        trips(k) = i
        outboundFrom(slabOf(words(i * Words + Dropoff)) + 1) += 1
        k += 1
      }
      i += 1
    }
    val (_, inOrder) = RadixSort(keys, trips, grid.bits)
    for (s <- 0 until slabs) outboundFrom(s + 1) += outboundFrom(s)
    val fill = Arrays.copyOf(outboundFrom, slabs)
    val order = new Array[Int](count)
    k = 0
    while (k < count) {
      val s = slabOf(words(inOrder(k) * Words + Dropoff))
      order(fill(s)) = inOrder(k)
      fill(s) += 1
      k += 1
    }
    order
  }

  private def sortInbound(): (SortedInbound, Array[Int]) = {
    val count = countRole(Inbound)
    val keys = new Array[Long](count)
    val trips = new Array[Int](count)
    var i = 0
    var k = 0
    while (i < n) {
      if (table.isInbound(i)) {
        keys(k) = grid.ofInbound(i)
        trips(k) = i
        var s = firstSlab(words(i * Words + Pickup))
        val stop = lastSlab(words(i * Words + Pickup))
        while (s <= stop) {
          inboundFrom(s + 1) += 1
          s += 1
        }
        k += 1
      }
      i += 1
    }
    val (sortedKeys, sortedTrips) = RadixSort(keys, trips, grid.bits)
    val inOrder = new Array[Float](count * 6)
    val times = new Array[Long](count)
    k = 0
    while (k < count) { // in sorted order here, so that a slab reads memory forwards only
      TripPoints.copy(points, sortedTrips(k), inOrder, k)
      times(k) = words(sortedTrips(k) * Words + Pickup)
      k += 1
    }
    for (s <- 0 until slabs) inboundFrom(s + 1) += inboundFrom(s)
    val fill = Arrays.copyOf(inboundFrom, slabs)
    val order = new Array[Int](inboundFrom(slabs))
    k = 0
    while (k < count) {
      var s = firstSlab(times(k))
      val stop = lastSlab(times(k))
      while (s <= stop) {
        order(fill(s)) = k
        fill(s) += 1
        s += 1
      }
      k += 1
    }
    (new SortedInbound(sortedKeys, sortedTrips, inOrder, times), order)
  }

  private def countRole(role: Int): Int = {
    var count = 0
    var i = 0
    while (i < n) {
      if ((table.roles(i) & role) != 0) count += 1
      i += 1
    }
    count
  }

  /** Makes the next slab with trips on both sides the one at hand; false where there is none. */
  private def openSlab(): Boolean = {
    number += 1
    while (number < slabs &&
      (outboundFrom(number + 1) == outboundFrom(number) || inboundFrom(number + 1) == inboundFrom(number)))
      number += 1
    if (number >= slabs) return false
    next = outboundFrom(number)
    end = outboundFrom(number + 1)
    slab.copyOutbound(points, outboundOrder, next, end)
    slab.copyInbound(sorted, inboundOrder, inboundFrom(number), inboundFrom(number + 1))
    true
  }

  /** Appends the pairs of one outbound trip. */
  private def look(at: Int, trip: Int): Unit = {
    findStretches(slab.outboundPlaces(at * 4), slab.outboundPlaces(at * 4 + 1))
    if (stretches == 0) return
    val lat = slab.outboundPlaces(at * 4 + 2)
    val turned = slab.outboundPlaces(at * 4 + 3)
    val cosLat = Sphere.nearCosine(lat)
    var row = grid.cells.of(lat - search.wideDegrees)
    val lastRow = grid.cells.of(lat + search.wideDegrees)
    while (row <= lastRow) {
      val half = grid.cells.halfTurn(row, lat, cosLat, search)
      if (half >= 0) {
        val round = grid.cellsRound(row)
        var c = Math.floor((turned - half) * round).toInt
        var stop = Math.floor((turned + half) * round).toInt
        if (half >= 0.5 || stop - c >= round) {
          c = 0
          stop = round - 1
        }
        while (c <= stop) {
          val col = if (c < 0) c + round else if (c >= round) c - round else c
          if (col >= grid.firstCol && col <= grid.lastCol) {
            val slot = slab.directory.slotOf(grid.cell(row, col))
            if (slot >= 0) scanCell(at, trip, slot)
          }
          c += 1
        }
      }
      row += 1
    }
  }

  /** The stretches of (band, longitude) that the disc round an outbound trip's pickup touches. */
  private def findStretches(lat: Double, turned: Double): Unit = {
    stretches = 0
    val cosLat = Sphere.nearCosine(lat)
    var row = grid.bands.of(lat - search.wideDegrees)
    val lastRow = grid.bands.of(lat + search.wideDegrees)
    while (row <= lastRow) {
      val half = grid.bands.halfTurn(row, lat, cosLat, search)
      if (half >= 0.5) addStretch(row, 0, grid.lastStep)
      else if (half >= 0) {
        addStretch(row, grid.step(turned - half), grid.step(turned + half))
        if (turned - half < 0) addStretch(row, grid.step(turned - half + 1), grid.lastStep)
        if (turned + half >= 1) addStretch(row, 0, grid.step(turned + half - 1))
      }
      row += 1
    }
  }

  private def addStretch(row: Int, low: Int, high: Int): Unit =
    if (low <= grid.lastStep && high >= 0) {
      val from = row << grid.lonBits | Math.max(low, 0)
      val to = row << grid.lonBits | Math.min(high, grid.lastStep)
      val last = stretches - 1
      if (last >= 0 && from <= stretchHigh(last) && to >= stretchLow(last)) {
        // Both ends of a disc round a pole in one step: what lies in it is to be found once.
        stretchLow(last) = Math.min(from, stretchLow(last))
        stretchHigh(last) = Math.max(to, stretchHigh(last))
      } else {
        if (stretches == stretchLow.length) {
          stretchLow = Arrays.copyOf(stretchLow, 2 * stretches)
          stretchHigh = Arrays.copyOf(stretchHigh, 2 * stretches)
        }
        stretchLow(stretches) = from
        stretchHigh(stretches) = to
        stretches += 1
      }
    }

  private def scanCell(outboundAt: Int, trip: Int, slot: Int): Unit = {
    val keys = slab.keys
    val cell = slab.directory
    var s = 0
    while (s < stretches) {
      val low = stretchLow(s)
      val high = stretchHigh(s)
      val range = cell.rangeOf(slot, low >>> grid.lonBits)
      val to = range.toInt
      var at = (range >>> 32).toInt
      var before = to
      while (before - at > PairFinder.Step) {
        val middle = (at + before) >>> 1
        if (keys(middle) < low) at = middle else before = middle
      }
      while (at < to && keys(at) < low) at += 1
      if (at < to && keys(at) <= high) scan(outboundAt, trip, at, to, high)
      s += 1
    }
  }

  private def scan(outboundAt: Int, trip: Int, from: Int, to: Int, high: Int): Unit = {
    val keys = slab.keys
    val near = slab.points
    val times = slab.times
    val base = outboundAt * 6
    val px = slab.outboundPoints(base)
    val py = slab.outboundPoints(base + 1)
    val pz = slab.outboundPoints(base + 2)
    val dx = slab.outboundPoints(base + 3)
    val dy = slab.outboundPoints(base + 4)
    val dz = slab.outboundPoints(base + 5)
    val dropoff = slab.outboundTimes(outboundAt)
    val windowUs = search.windowUs
    val beyond = outside
    val surely = inside
    var at = from
    while (at < to && keys(at) <= high) {
      val j = at * 6
      val a = near(j) - dx
      val b = near(j + 1) - dy
      val c = near(j + 2) - dz
      val g = a * a + b * b + c * c
      if (g <= beyond) {
        val wait = times(at) - dropoff
        if (wait > 0 && wait < windowUs) {
          val u = near(j + 3) - px
          val v = near(j + 4) - py
          val w = near(j + 5) - pz
          val h = u * u + v * v + w * w
          if (h <= beyond) {
            val other = slab.trips(at)
            if (words(other * Words + Id) != words(trip * Words + Id) &&
              ((g < surely && h < surely) || isClose(trip, other))) add(trip, other)
          }
        }
      }
      at += 1
    }
  }

  private def isClose(a: Int, b: Int): Boolean =
    dropoffGapM(a, b) < search.radiusM && pickupGapM(a, b) < search.radiusM

  def dropoffGapM(a: Int, b: Int): Double = Sphere.haversineM(
    table.degrees(a, DropoffLat), table.degrees(a, DropoffLon), table.degrees(b, PickupLat), table.degrees(b, PickupLon))

  def pickupGapM(a: Int, b: Int): Double = Sphere.haversineM(
    table.degrees(a, PickupLat), table.degrees(a, PickupLon), table.degrees(b, DropoffLat), table.degrees(b, DropoffLon))

  private def add(a: Int, b: Int): Unit = {
    if (found == outbound.length) {
      outbound = Arrays.copyOf(outbound, 2 * found)
      inbound = Arrays.copyOf(inbound, 2 * found)
    }
    outbound(found) = a
    inbound(found) = b
    found += 1
  }
}

object PairFinder {
  /** Pairs found before a batch is handed over; one trip's pairs are never cut. */
  val Batch = 4096

  /** Measured on 24 real days. */
  val SlabsPerWindow: Int = 2

  /** So few keys are compared one by one: cheaper than guessing which half they are in. */
  private val Step = 8
}
