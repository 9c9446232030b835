package org.apache.spark.sql.roundtrip

import scala.collection.mutable

import org.apache.spark.Partitioner
import org.apache.spark.rdd.{RDD, ShuffledRDD}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{Attribute, UnsafeRow}
import org.apache.spark.sql.execution.SparkPlan
import org.apache.spark.sql.execution.metric.{SQLMetric, SQLMetrics}
import org.apache.spark.unsafe.Platform

/** Runs a ReturnTripJoin: a sample decides the tiles, one shuffle brings each trip to the tiles where
  * it may have a pair, and each task finds the pairs of its tile.
  *
  * Like a range partitioning, it runs the sampling job when its RDD is asked for. Only the sample
  * (some ten thousand trips) comes to the driver.
  *
  * @param columns which of `ReturnTripJoin.output` to compute, as numbers
  */
case class ReturnTripJoinExec(
    children: Seq[SparkPlan],
    radiusM: Double,
    windowUs: Long,
    override val output: Seq[Attribute],
    columns: Seq[Int])
    extends SparkPlan {
  override lazy val metrics: Map[String, SQLMetric] = Map(
    "trips" -> SQLMetrics.createMetric(sparkContext, "trips read"),
    "copies" -> SQLMetrics.createMetric(sparkContext, "trips shuffled"),
    "tiles" -> SQLMetrics.createMetric(sparkContext, "tiles"),
    "numOutputRows" -> SQLMetrics.createMetric(sparkContext, "number of output rows"))

  override protected def doExecute(): RDD[InternalRow] = {
    val search = new Search(radiusM, windowUs)
    val both = TripRecords.Outbound | TripRecords.Inbound
    val sides = children.map(_.execute()).zip(if (children.size == 1) Seq(both) else Seq(1, 2))
    val tasks = sparkContext.defaultParallelism
    val tiles = Tiles.of(TripSampling.draw(sides), search, tasks)
    metrics("tiles").set(tiles.count)
    SQLMetrics.postDriverMetricUpdates(
      sparkContext,
      sparkContext.getLocalProperty(org.apache.spark.sql.execution.SQLExecution.EXECUTION_ID_KEY),
      Seq(metrics("tiles")))
    val trips = metrics("trips")
    val copies = metrics("copies")
    val chunks = sides
      .map { case (rows, role) => rows.mapPartitionsInternal(new Router(tiles, role, trips, copies).route(_)) }
      .reduce(_ union _)
    val shuffled = new ShuffledRDD[Int, Array[Byte], Array[Byte]](chunks, new TilePartitioner(tiles.count))
    val rows = metrics("numOutputRows")
    val wanted = columns.toArray
    shuffled.mapPartitionsInternal { tile =>
      new PairRows(new PairFinder(TripTable(tile.map(_._2)), search), wanted, rows)
    }
  }

  override protected def withNewChildrenInternal(newChildren: IndexedSeq[SparkPlan]): SparkPlan =
    copy(children = newChildren)
}

final class TilePartitioner(val numPartitions: Int) extends Partitioner {
  override def getPartition(key: Any): Int = key.asInstanceOf[Int]
}

/** Sends the trips of one partition to their tiles, in chunks. Holds at most 32 MB of them. */
final class Router(tiles: Tiles, role: Int, trips: SQLMetric, copies: SQLMetric) extends Serializable {
  private def chunkRecords = Math.max(16, Math.min(4096, (32 << 20) / (3 * tiles.count * TripRecords.Bytes)))

  def route(rows: Iterator[InternalRow]): Iterator[(Int, Array[Byte])] = new Iterator[(Int, Array[Byte])] {
    private val open = new Array[ChunkBuilder](tiles.count * 3)
    private val limit = chunkRecords
    private val words = new Array[Long](TripRecords.Words)
    private val features = new TripFeatures
    private val targets = new Array[Int](tiles.count)
    private val pending = new Array[Int](tiles.count + 1)
    private val ready = mutable.Queue[(Int, Array[Byte])]()
    private var drained = 0

    override def hasNext: Boolean = {
      while (ready.isEmpty && rows.hasNext) add(rows.next())
      while (ready.isEmpty && drained < open.length) {
        if (open(drained) != null && !open(drained).isEmpty) flush(drained)
        open(drained) = null
        drained += 1
      }
      ready.nonEmpty
    }

    override def next(): (Int, Array[Byte]) = ready.dequeue()

    private def add(row: InternalRow): Unit = {
      if (!TripRecords.read(row, words, 0)) return
      trips += 1
      features.set(words, 0, tiles.useSpace)
      val own = if ((role & TripRecords.Outbound) != 0) tiles.ofOutbound(features) else -1
      var ownIsInbound = false
      if ((role & TripRecords.Inbound) != 0) {
        val count = tiles.ofInbound(features, targets, pending)
        var k = 0
        while (k < count) {
          if (targets(k) == own) ownIsInbound = true
          else put(targets(k), TripRecords.Inbound)
          k += 1
        }
      }
      if (own >= 0) put(own, if (ownIsInbound) 3 else TripRecords.Outbound)
    }

    private def put(tile: Int, as: Int): Unit = {
      val at = tile * 3 + as - 1
      if (open(at) == null) open(at) = new ChunkBuilder(as, limit)
      open(at).add(words)
      copies += 1
      if (open(at).isFull) flush(at)
    }

    private def flush(at: Int): Unit = ready.enqueue((at / 3, open(at).take()))
  }
}

/** Pairs as rows of the wanted columns. The row is one object that each call fills anew. */
final class PairRows(finder: PairFinder, columns: Array[Int], numRows: SQLMetric) extends Iterator[InternalRow] {
  private val width = columns.length
  private val buffer = new Array[Byte](UnsafeRow.calculateBitSetWidthInBytes(width) + 8 * width)
  private val fields = Platform.BYTE_ARRAY_OFFSET + UnsafeRow.calculateBitSetWidthInBytes(width)
  private val row = new UnsafeRow(width)
  row.pointTo(buffer, buffer.length)
  private var at = 0

  override def hasNext: Boolean = at < finder.found || refill()

  private def refill(): Boolean = {
    at = 0
    val more = finder.advance()
    if (more) numRows += finder.found
    more
  }

  override def next(): InternalRow = {
    if (width > 0) fill(finder.outbound(at), finder.inbound(at))
    at += 1
    row
  }

  private def fill(a: Int, b: Int): Unit = {
    var i = 0
    while (i < width) {
      val to = fields + 8L * i
      columns(i) match {
        case 0 => Platform.putLong(buffer, to, finder.word(a, TripRecords.Id))
        case 1 => Platform.putLong(buffer, to, finder.word(b, TripRecords.Id))
        case 2 => Platform.putLong(buffer, to, finder.word(a, TripRecords.Dropoff))
        case 3 =>
          Platform.putLong(buffer, to, finder.word(b, TripRecords.Pickup) - finder.word(a, TripRecords.Dropoff))
        case 4 => Platform.putDouble(buffer, to, finder.dropoffGapM(a, b))
        case 5 => Platform.putDouble(buffer, to, finder.pickupGapM(a, b))
      }
      i += 1
    }
  }
}

/** Draws trips evenly from all partitions, with their number. */
object TripSampling {
  private val Wanted = 16384

  def draw(sides: Seq[(RDD[InternalRow], Int)]): TripSample = {
    val drawn = sides.map { case (rows, role) => (role, drawSide(rows)) }
    // One rate for all: the rarest; partitions that were drawn from more often are thinned again.
    val level = drawn.flatMap(_._2.map(_._2)).maxOption.getOrElse(0)
    val kept = for {
      (role, parts) <- drawn
      (words, _, hashes) <- parts
      i <- hashes.indices
      if keeps(hashes(i), level)
    } yield (words, i * TripRecords.Words, role.toByte)
    val words = new Array[Long](kept.length * TripRecords.Words)
    kept.zipWithIndex.foreach { case ((from, at, _), k) =>
      System.arraycopy(from, at, words, k * TripRecords.Words, TripRecords.Words)
    }
    TripSample(words, kept.map(_._3).toArray, Math.scalb(1.0, level))
  }

  private def keeps(hash: Long, level: Int): Boolean = level == 0 || hash >>> (64 - level) == 0

  /** Per partition: words of trips, the level (one of 2^level was kept), and the trips' hashes. */
  private def drawSide(rows: RDD[InternalRow]): Array[(Array[Long], Int, Array[Long])] = {
    val most = Math.max(64, 2 * Wanted / Math.max(1, rows.getNumPartitions))
    rows
      .mapPartitionsWithIndexInternal { (partition, trips) =>
        val words = new Array[Long](most * TripRecords.Words)
        val hashes = new Array[Long](most)
        var count = 0
        var level = 0
        var seed = partition.toLong << 40
        while (trips.hasNext) {
          val row = trips.next()
          seed += 1
          val hash = mix(seed)
          if (keeps(hash, level) && TripRecords.read(row, words, count * TripRecords.Words)) {
            hashes(count) = hash
            count += 1
            while (count == most) { // full: keep every other trip, and draw half as often
              level += 1
              var to = 0
              for (i <- 0 until count if keeps(hashes(i), level)) {
                hashes(to) = hashes(i)
                System.arraycopy(words, i * TripRecords.Words, words, to * TripRecords.Words, TripRecords.Words)
                to += 1
              }
              count = to
            }
          }
        }
        Iterator.single(
          (java.util.Arrays.copyOf(words, count * TripRecords.Words), level, java.util.Arrays.copyOf(hashes, count)))
      }
      .collect()
  }

  private def mix(x: Long): Long = {
    val a = (x ^ (x >>> 30)) * 0xbf58476d1ce4e5b9L
    val b = (a ^ (a >>> 27)) * 0x94d049bb133111ebL
    b ^ (b >>> 31)
  }
}
