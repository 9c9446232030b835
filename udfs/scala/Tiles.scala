package org.apache.spark.sql.roundtrip

import scala.collection.mutable.ArrayBuffer

/** What tiles are cut by, for one trip: seven numbers in which the two trips of a pair are close.
  *
  * Number 0 is time. The others are, along each axis of the unit sphere, the sum and the distance of
  * the trip's two ends. A return swaps the ends, which changes neither, so a trip and its returns
  * lie in the same tile but for a border as wide as the radius, and the trip is sent there once for
  * both of its roles. No axis has a seam or a pole.
  */
final class TripFeatures {
  val space = new Array[Double](7) // from 1
  var dropoff = 0L
  var pickup = 0L
  private val ends = new Array[Double](6)

  def set(words: Array[Long], at: Int, withSpace: Boolean): Unit = {
    import TripRecords._
    pickup = words(at + Pickup)
    dropoff = words(at + Dropoff)
    if (withSpace) {
      def degrees(word: Int) = java.lang.Double.longBitsToDouble(words(at + word))
      Sphere.unitVector(degrees(PickupLat), degrees(PickupLon), ends, 0)
      Sphere.unitVector(degrees(DropoffLat), degrees(DropoffLon), ends, 3)
      var k = 0
      while (k < 3) {
        space(1 + 2 * k) = ends(k) + ends(k + 3)
        space(2 + 2 * k) = Math.abs(ends(k) - ends(k + 3))
        k += 1
      }
    }
  }
}

/** A tree of cuts that gives an outbound trip one tile and an inbound trip every tile where a trip
  * that it returns from may be. So each pair meets in exactly one tile.
  */
final class Tiles(
    cutBy: Array[Int], // feature of a node, or -1 for a tile
    cutTime: Array[Long],
    cutSpace: Array[Double],
    below: Array[Int], // node of what lies below the cut; for a tile its number
    above: Array[Int],
    val count: Int,
    search: Search)
    extends Serializable {
  val useSpace: Boolean = cutBy.exists(_ > 0)

  // Both ends may be a chord away, and so may the sum and the difference of their coordinates.
  private val slack = 2 * search.wideChord + 1e-9

  def ofOutbound(trip: TripFeatures): Int = {
    var node = 0
    while (cutBy(node) >= 0) {
      val isBelow =
        if (cutBy(node) == 0) trip.dropoff < cutTime(node) else trip.space(cutBy(node)) < cutSpace(node)
      node = if (isBelow) below(node) else above(node)
    }
    below(node)
  }

  /** Puts the tiles of an inbound trip into `out`, returns how many. */
  def ofInbound(trip: TripFeatures, out: Array[Int], pending: Array[Int]): Int = {
    var found = 0
    var left = 1
    pending(0) = 0
    while (left > 0) {
      left -= 1
      val node = pending(left)
      val by = cutBy(node)
      if (by < 0) {
        out(found) = below(node)
        found += 1
      } else {
        // The outbound trip ended in [pickup - window + 1, pickup - 1].
        if (if (by == 0) trip.pickup - search.windowUs + 1 < cutTime(node) else trip.space(by) - slack < cutSpace(node)) {
          pending(left) = below(node)
          left += 1
        }
        if (if (by == 0) trip.pickup - 1 >= cutTime(node) else trip.space(by) + slack >= cutSpace(node)) {
          pending(left) = above(node)
          left += 1
        }
      }
    }
    found
  }
}

/** Trips drawn from both sides, with how many trips each stands for. */
final case class TripSample(words: Array[Long], roles: Array[Byte], tripsEach: Double) {
  def count: Int = roles.length
}

object Tiles {
  /** Work of one pair as a share of the work of one trip; the rest of a tile's cost is its trips. */
  private val PairWork = 0.05

  /** Trips in a tile at most: 200 bytes each in its task, see PairFinder. */
  val MostTrips = 800000

  /** Trips in a tile at least, unless there are fewer: below that a task is mostly overhead. */
  private val FewestTrips = 50000

  /** A cut that copies more than this share of a node's trips is made only to save memory. */
  private val MostCopied = 0.25

  private val FewestSampled = 8

  /** Cuts until no tile has more than its share of trips and pairs, as far as the sample tells.
    *
    * Pairs are counted among the sampled trips, with the finder itself; each stands for as many as
    * the square of the sampling rate says. So a place where trips crowd is cut finer.
    */
  def of(sample: TripSample, search: Search, tasks: Int): Tiles = {
    val m = sample.count
    val features = Array.fill(m)(new TripFeatures)
    for (i <- 0 until m) features(i).set(sample.words, i * TripRecords.Words, withSpace = true)
    val work = Array.fill(m)(1.0)
    if (sample.tripsEach > 1) {
      val finder = new PairFinder(new TripTable(sample.words, sample.roles, m), search)
      while (finder.advance())
        for (k <- 0 until finder.found) work(finder.outbound(k)) += PairWork * sample.tripsEach
    }
    new TileCutter(sample, features, work, search, tasks).cut()
  }

  private final class TileCutter(
      sample: TripSample, features: Array[TripFeatures], work: Array[Double], search: Search, tasks: Int) {
    private val cutBy = ArrayBuffer[Int]()
    private val cutTime = ArrayBuffer[Long]()
    private val cutSpace = ArrayBuffer[Double]()
    private val below = ArrayBuffer[Int]()
    private val above = ArrayBuffer[Int]()
    private val tileWork = ArrayBuffer[(Int, Double)]() // node of a tile, its work
    private val slack = 2 * search.wideChord + 1e-9
    private val fewest = FewestTrips / sample.tripsEach
    private val most = MostTrips / sample.tripsEach
    private val share = Math.max(fewest, work.sum / (4 * Math.max(1, tasks)))

    private def has(i: Int, role: Int) = (sample.roles(i) & role) != 0

    def cut(): Tiles = {
      val all = (0 until sample.count).toArray
      add(all.filter(has(_, TripRecords.Outbound)), all.filter(has(_, TripRecords.Inbound)))
      // The heaviest first, so that none of them starts last.
      for (((node, _), number) <- tileWork.sortBy(-_._2).zipWithIndex) below(node) = number
      new Tiles(
        cutBy.toArray, cutTime.toArray, cutSpace.toArray, below.toArray, above.toArray, tileWork.length, search)
    }

    /** Trips of a node, those in both roles once. */
    private def size(outbound: Array[Int], inbound: Array[Int]): Int = {
      val seen = new java.util.BitSet(sample.count)
      outbound.foreach(seen.set)
      inbound.foreach(seen.set)
      seen.cardinality()
    }

    private def add(outbound: Array[Int], inbound: Array[Int]): Int = {
      val node = cutBy.length
      cutBy += -1
      cutTime += 0
      cutSpace += 0
      below += -1
      above += -1
      val trips = size(outbound, inbound)
      val load = trips + outbound.foldLeft(0.0)((sum, i) => sum + work(i) - 1)
      val tooMany = trips > most
      val isLarge = load > share && trips > fewest || load > 2 * share
      val best = if ((tooMany || isLarge) && outbound.length >= FewestSampled) bestCut(outbound, inbound) else None
      best match {
        case Some(c) if c.trips <= (if (tooMany) 1.9 else 1 + MostCopied) * trips || load > 2 * trips =>
          cutBy(node) = c.by
          cutTime(node) = c.time
          cutSpace(node) = c.space
          below(node) = add(c.outboundBelow, c.inboundBelow)
          above(node) = add(c.outboundAbove, c.inboundAbove)
        case _ => tileWork += node -> load
      }
      node
    }

    private case class Cut(
        by: Int, time: Long, space: Double, trips: Int,
        outboundBelow: Array[Int], inboundBelow: Array[Int],
        outboundAbove: Array[Int], inboundAbove: Array[Int])

    /** The cut at the work's middle that copies the fewest trips. */
    private def bestCut(outbound: Array[Int], inbound: Array[Int]): Option[Cut] =
      (0 to 6).flatMap(cutAlong(_, outbound, inbound)).minByOption(_.trips)

    /** The trip at the middle of the work along a feature, from a few hundred of them. */
    private def middleOf(by: Int, outbound: Array[Int]): Int = {
      val few = outbound.indices.by(Math.max(1, outbound.length / 512)).map(outbound(_)).toArray
      val ordered = if (by == 0) few.sortBy(features(_).dropoff) else few.sortBy(features(_).space(by))
      val half = ordered.foldLeft(0.0)((sum, i) => sum + work(i)) / 2
      var sum = 0.0
      ordered(Math.max(0, ordered.indexWhere { i => sum += work(i); sum >= half }))
    }

    private def cutAlong(by: Int, outbound: Array[Int], inbound: Array[Int]): Option[Cut] = {
      val middle = middleOf(by, outbound)
      val time = features(middle).dropoff
      val space = features(middle).space(by)
      def outboundIsBelow(i: Int) =
        if (by == 0) features(i).dropoff < time else features(i).space(by) < space
      val (ob, oa) = outbound.partition(outboundIsBelow)
      if (ob.isEmpty || oa.isEmpty) None
      else {
        val ib = inbound.filter(i =>
          if (by == 0) features(i).pickup - search.windowUs + 1 < time else features(i).space(by) - slack < space)
        val ia = inbound.filter(i =>
          if (by == 0) features(i).pickup - 1 >= time else features(i).space(by) + slack >= space)
        Some(Cut(by, time, space, size(ob, ib) + size(oa, ia), ob, ib, oa, ia))
      }
    }
  }
}
