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

  private def isOutbound(i: Int) = (table.roles(i) & Outbound) != 0
  private def isInbound(i: Int) = (table.roles(i) & Inbound) != 0

  private val places = new TripPoints(table, search)
  private val points = places.metres
  private val seam = places.seam
  private val inside = places.inside
  private val outside = places.outside

  private val (south, north, first, last) = bounds()
  private val cells =
    new Bands(south, north, Math.min(Math.max(search.wideDegrees * PairFinder.CellRadii, PairFinder.leastCell), 180))
  private val bands =
    new Bands(south, north, Math.min(Math.max(search.wideDegrees * PairFinder.BandRadii, PairFinder.leastBand), 180))
  private val cellsRound = Array.tabulate(cells.count) { i =>
    val middle = Math.toRadians(cells.south + (i + 0.5) * cells.height)
    Math.max(1, Math.floor(360 / cells.height * Math.cos(middle)).toInt)
  }

  // Keys: cell row, cell column, band, longitude in steps over the range that drop-offs span.
  private var firstCol = 0
  private var lastCol = 0
  private var turnFrom = 0.0
  private var turnTo = 0.0
  measureColumns()
  private val colBits = PairFinder.bits(lastCol - firstCol)
  private val bandBits = PairFinder.bits(bands.count - 1)
  private val lonBits = Math.min(31 - bandBits, 14)
  private val lastStep = (1 << lonBits) - 1
  private val steps = if (turnTo > turnFrom) lastStep / (turnTo - turnFrom) else 0.0
  private val keyBits = PairFinder.bits(cells.count - 1) + colBits + bandBits + lonBits

  // Slabs of time; few trips over a long time get longer ones.
  private val slabUs =
    Math.max(Math.max(1L, search.windowUs / PairFinder.SlabsPerWindow), (last - first) / (4L * n + 4) + 1)
  private val slabs = ((last - first) / slabUs + 1).toInt
  private val outboundFrom = new Array[Int](slabs + 1) // where a slab's trips start in outboundOrder
  private val inboundFrom = new Array[Int](slabs + 1) // likewise, positions in the sorted order
  private val outboundOrder = sortOutbound()
  private var inboundKeys: Array[Long] = _
  private var inboundTrips: Array[Int] = _
  private var inboundPoints: Array[Float] = _
  private var inboundTimes: Array[Long] = _
  private val inboundOrder = sortInbound()

  // The slab at hand.
  private var slab = -1
  private var next = 0
  private var end = 0
  private val most = longest(inboundFrom)
  private val mostOutbound = longest(outboundFrom)
  private val slabPoints = new Array[Float](most * 6)
  private val slabKeys = new Array[Int](most)
  private val slabTimes = new Array[Long](most)
  private val slabTrips = new Array[Int](most)
  // Outbound trips lie side by side too, so that a search waits for no other memory.
  private val outboundPoints = new Array[Float](mostOutbound * 6)
  private val outboundPlaces = new Array[Double](mostOutbound * 4) // latitude and turn, both ends
  private val outboundTimes = new Array[Long](mostOutbound)
  private var directory = new CellDirectory(16, 16)
  private var stretchLow = new Array[Int](16)
  private var stretchHigh = new Array[Int](16)
  private var stretches = 0

  /** Finds the next batch of pairs; false where there are no more. */
  def advance(): Boolean = {
    found = 0
    while (found < PairFinder.Batch) {
      if (next == end && !openSlab()) return found > 0
      look(next - outboundFrom(slab), outboundOrder(next))
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
      if (isOutbound(i)) { from = Math.min(from, dropoff); to = Math.max(to, dropoff) }
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

  private def turn(lon: Double): Double = {
    val x = (lon - seam) / 360
    val share = x - Math.floor(x)
    if (share >= 1) 0.0 else share
  }

  private def column(row: Int, turned: Double): Int =
    Math.min((turned * cellsRound(row)).toInt, cellsRound(row) - 1)

  private def step(turned: Double): Int = Math.floor((turned - turnFrom) * steps).toInt

  private def measureColumns(): Unit = {
    var low = Int.MaxValue
    var high = Int.MinValue
    var from = 1.0
    var to = 0.0
    var i = 0
    while (i < n) {
      if (isInbound(i)) {
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

  private def cellKey(row: Int, col: Int): Long = row.toLong << colBits | (col - firstCol).toLong

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
      if (isOutbound(i)) {
        val row = cells.of(table.degrees(i, DropoffLat))
        val col = column(row, turn(table.degrees(i, DropoffLon)))
        val near = Math.max(firstCol, Math.min(lastCol, col))
        val along = Math.max(0, Math.min(lastStep, step(turn(table.degrees(i, PickupLon)))))
        keys(k) = (cellKey(row, near) << bandBits | bands.of(table.degrees(i, PickupLat)).toLong) << lonBits | along
        trips(k) = i
        outboundFrom(slabOf(words(i * Words + Dropoff)) + 1) += 1
        k += 1
      }
      i += 1
    }
    val (_, sorted) = RadixSort(keys, trips, keyBits)
    for (s <- 0 until slabs) outboundFrom(s + 1) += outboundFrom(s)
    val fill = Arrays.copyOf(outboundFrom, slabs)
    val order = new Array[Int](count)
    k = 0
    while (k < count) {
      val s = slabOf(words(sorted(k) * Words + Dropoff))
      order(fill(s)) = sorted(k)
      fill(s) += 1
      k += 1
    }
    order
  }

  private def sortInbound(): Array[Int] = {
    val count = countRole(Inbound)
    val keys = new Array[Long](count)
    val trips = new Array[Int](count)
    var i = 0
    var k = 0
    while (i < n) {
      if (isInbound(i)) {
        val row = cells.of(table.degrees(i, PickupLat))
        val place = cellKey(row, column(row, turn(table.degrees(i, PickupLon))))
        val along = Math.min(lastStep, step(turn(table.degrees(i, DropoffLon))))
        keys(k) = (place << bandBits | bands.of(table.degrees(i, DropoffLat)).toLong) << lonBits | along
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
    val (sortedKeys, sortedTrips) = RadixSort(keys, trips, keyBits)
    inboundKeys = sortedKeys
    inboundTrips = sortedTrips
    inboundPoints = new Array[Float](count * 6)
    inboundTimes = new Array[Long](count)
    k = 0
    while (k < count) { // in sorted order here, so that a slab reads memory forwards only
      copyPoints(points, sortedTrips(k), inboundPoints, k)
      inboundTimes(k) = words(sortedTrips(k) * Words + Pickup)
      k += 1
    }
    for (s <- 0 until slabs) inboundFrom(s + 1) += inboundFrom(s)
    val fill = Arrays.copyOf(inboundFrom, slabs)
    val order = new Array[Int](inboundFrom(slabs))
    k = 0
    while (k < count) {
      var s = firstSlab(inboundTimes(k))
      val stop = lastSlab(inboundTimes(k))
      while (s <= stop) {
        order(fill(s)) = k
        fill(s) += 1
        s += 1
      }
      k += 1
    }
    order
  }

  private def copyPoints(from: Array[Float], i: Int, to: Array[Float], k: Int): Unit = {
    val f = i * 6
    val t = k * 6
    to(t) = from(f)
    to(t + 1) = from(f + 1)
    to(t + 2) = from(f + 2)
    to(t + 3) = from(f + 3)
    to(t + 4) = from(f + 4)
    to(t + 5) = from(f + 5)
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
    slab += 1
    while (slab < slabs &&
      (outboundFrom(slab + 1) == outboundFrom(slab) || inboundFrom(slab + 1) == inboundFrom(slab)))
      slab += 1
    if (slab >= slabs) return false
    next = outboundFrom(slab)
    end = outboundFrom(slab + 1)
    copyOutbound()
    val distinct = copyInbound()
    directory = directory.emptied(distinct, inboundFrom(slab + 1) - inboundFrom(slab))
    listCells()
    true
  }

  private def copyOutbound(): Unit = {
    var k = 0
    while (k < end - next) {
      val trip = outboundOrder(next + k)
      copyPoints(points, trip, outboundPoints, k)
      outboundPlaces(k * 4) = table.degrees(trip, PickupLat)
      outboundPlaces(k * 4 + 1) = turn(table.degrees(trip, PickupLon))
      outboundPlaces(k * 4 + 2) = table.degrees(trip, DropoffLat)
      outboundPlaces(k * 4 + 3) = turn(table.degrees(trip, DropoffLon))
      outboundTimes(k) = words(trip * Words + Dropoff)
      k += 1
    }
  }

  /** Copies the slab's inbound trips, returns in how many cells they begin. */
  private def copyInbound(): Int = {
    val from = inboundFrom(slab)
    val count = inboundFrom(slab + 1) - from
    val shift = bandBits + lonBits
    val mask = (1L << shift) - 1
    var distinct = 0
    var before = -1L
    var k = 0
    while (k < count) {
      val at = inboundOrder(from + k)
      val key = inboundKeys(at)
      copyPoints(inboundPoints, at, slabPoints, k)
      slabKeys(k) = (key & mask).toInt
      slabTimes(k) = inboundTimes(at)
      slabTrips(k) = inboundTrips(at)
      if ((key >>> shift) != before) {
        before = key >>> shift
        distinct += 1
      }
      k += 1
    }
    distinct
  }

  private def listCells(): Unit = {
    val from = inboundFrom(slab)
    val count = inboundFrom(slab + 1) - from
    val shift = bandBits + lonBits
    var before = -1L
    var start = 0
    var k = 0
    while (k <= count) {
      val cell = if (k == count) -1L else inboundKeys(inboundOrder(from + k)) >>> shift
      if (cell != before) {
        if (k > 0) directory.put(before, start, k, slabKeys, lonBits)
        before = cell
        start = k
      }
      k += 1
    }
  }

  /** Appends the pairs of one outbound trip. */
  private def look(at: Int, trip: Int): Unit = {
    findStretches(outboundPlaces(at * 4), outboundPlaces(at * 4 + 1))
    if (stretches == 0) return
    val lat = outboundPlaces(at * 4 + 2)
    val turned = outboundPlaces(at * 4 + 3)
    val cosLat = Sphere.nearCosine(lat)
    var row = cells.of(lat - search.wideDegrees)
    val lastRow = cells.of(lat + search.wideDegrees)
    while (row <= lastRow) {
      val half = cells.halfTurn(row, lat, cosLat, search)
      if (half >= 0) {
        val round = cellsRound(row)
        var c = Math.floor((turned - half) * round).toInt
        var stop = Math.floor((turned + half) * round).toInt
        if (half >= 0.5 || stop - c >= round) {
          c = 0
          stop = round - 1
        }
        while (c <= stop) {
          val col = if (c < 0) c + round else if (c >= round) c - round else c
          if (col >= firstCol && col <= lastCol) {
            val slot = directory.slotOf(cellKey(row, col))
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
    var row = bands.of(lat - search.wideDegrees)
    val lastRow = bands.of(lat + search.wideDegrees)
    while (row <= lastRow) {
      val half = bands.halfTurn(row, lat, cosLat, search)
      if (half >= 0.5) addStretch(row, 0, lastStep)
      else if (half >= 0) {
        addStretch(row, step(turned - half), step(turned + half))
        if (turned - half < 0) addStretch(row, step(turned - half + 1), lastStep)
        if (turned + half >= 1) addStretch(row, 0, step(turned + half - 1))
      }
      row += 1
    }
  }

  private def addStretch(row: Int, low: Int, high: Int): Unit =
    if (low <= lastStep && high >= 0) {
      if (stretches == stretchLow.length) {
        stretchLow = Arrays.copyOf(stretchLow, 2 * stretches)
        stretchHigh = Arrays.copyOf(stretchHigh, 2 * stretches)
      }
      stretchLow(stretches) = row << lonBits | Math.max(low, 0)
      stretchHigh(stretches) = row << lonBits | Math.min(high, lastStep)
      stretches += 1
    }

  private def scanCell(outboundAt: Int, trip: Int, slot: Int): Unit = {
    val keys = slabKeys
    val cell = directory
    var s = 0
    while (s < stretches) {
      val low = stretchLow(s)
      val high = stretchHigh(s)
      val range = cell.rangeOf(slot, low >>> lonBits)
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
    val keys = slabKeys
    val near = slabPoints
    val times = slabTimes
    val base = outboundAt * 6
    val px = outboundPoints(base)
    val py = outboundPoints(base + 1)
    val pz = outboundPoints(base + 2)
    val dx = outboundPoints(base + 3)
    val dy = outboundPoints(base + 4)
    val dz = outboundPoints(base + 5)
    val dropoff = outboundTimes(outboundAt)
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
            val other = slabTrips(at)
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

  /** Shape of cells and bands, in radii and at least so many degrees; measured on 24 real days. */
  val CellRadii: Double = 2
  val BandRadii: Double = 1
  val SlabsPerWindow: Int = 2
  val leastCell: Double = Math.toDegrees(400 / Sphere.EarthRadiusM)
  val leastBand: Double = Math.toDegrees(200 / Sphere.EarthRadiusM)

  /** So few keys are compared one by one: cheaper than guessing which half they are in. */
  private val Step = 8

  def bits(largest: Int): Int = 32 - Integer.numberOfLeadingZeros(largest)
}
