package org.apache.spark.sql.roundtrip

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.unsafe.Platform

/** Trips as seven 64-bit words each, the form in which they are shuffled and held in a task.
  *
  * trip id, pickup and drop-off time (microseconds since 1970), then the bits of pickup latitude and
  * longitude and drop-off latitude and longitude (degrees).
  */
object TripRecords {
  val Words = 7
  val Bytes: Int = Words * 8
  val Id = 0
  val Pickup = 1
  val Dropoff = 2
  val PickupLat = 3
  val PickupLon = 4
  val DropoffLat = 5
  val DropoffLon = 6

  /** A trip may be looked for as a return, may look for returns, or both. */
  val Outbound = 1
  val Inbound = 2

  /** Puts the trip of `row` (the seven columns in this order) at `to(at) ..`.
    *
    * False for a row that can have no pair under SQL's rules: a NULL, NaN or infinite value.
    */
  def read(row: InternalRow, to: Array[Long], at: Int): Boolean = {
    if (row.anyNull) return false
    var i = 0
    while (i < 3) {
      to(at + i) = row.getLong(i)
      i += 1
    }
    var finite = true
    while (i < Words) {
      val degrees = row.getDouble(i)
      finite &= Math.abs(degrees) <= Double.MaxValue
      to(at + i) = java.lang.Double.doubleToRawLongBits(degrees)
      i += 1
    }
    if (finite && (Math.abs(lat(to, at + PickupLat)) > 90 || Math.abs(lat(to, at + DropoffLat)) > 90))
      throw new IllegalArgumentException(
        s"trip ${to(at + Id)} has a latitude beyond 90 degrees: clean the trips first")
    finite
  }

  private def lat(words: Array[Long], at: Int): Double = java.lang.Double.longBitsToDouble(words(at))
}

/** Records for one task, gathered in chunks of bytes: a header word (the role), then the records. */
final class ChunkBuilder(role: Int, chunkRecords: Int) {
  private var bytes = new Array[Byte](8 + 16 * TripRecords.Bytes)
  private var used = 8

  def isEmpty: Boolean = used == 8
  def isFull: Boolean = used >= 8 + chunkRecords * TripRecords.Bytes

  def add(words: Array[Long]): Unit = {
    if (used + TripRecords.Bytes > bytes.length)
      bytes = java.util.Arrays.copyOf(bytes, Math.min(used * 2, 8 + chunkRecords * TripRecords.Bytes))
    Platform.copyMemory(
      words, Platform.LONG_ARRAY_OFFSET, bytes, Platform.BYTE_ARRAY_OFFSET + used, TripRecords.Bytes)
    used += TripRecords.Bytes
  }

  /** The chunk; the builder is empty afterwards. */
  def take(): Array[Byte] = {
    Platform.putLong(bytes, Platform.BYTE_ARRAY_OFFSET, role)
    val chunk = java.util.Arrays.copyOf(bytes, used)
    used = 8
    chunk
  }
}

/** The records of one task: words of all trips, and the role of each. */
final class TripTable(val words: Array[Long], val roles: Array[Byte], val count: Int) {
  def degrees(record: Int, word: Int): Double =
    java.lang.Double.longBitsToDouble(words(record * TripRecords.Words + word))

  def isOutbound(record: Int): Boolean = (roles(record) & TripRecords.Outbound) != 0
  def isInbound(record: Int): Boolean = (roles(record) & TripRecords.Inbound) != 0
}

object TripTable {
  /** Unpacks chunks, letting go of each as soon as it is copied. */
  def apply(chunks: Iterator[Array[Byte]]): TripTable = {
    val held = new java.util.ArrayDeque[Array[Byte]]()
    var count = 0L
    chunks.foreach { c =>
      held.add(c)
      count += (c.length - 8) / TripRecords.Bytes
    }
    if (count * TripRecords.Words > Int.MaxValue - 8)
      throw new IllegalStateException(s"$count trips met in one task, more than an array can hold")
    val words = new Array[Long](count.toInt * TripRecords.Words)
    val roles = new Array[Byte](count.toInt)
    var at = 0
    while (!held.isEmpty) {
      val chunk = held.poll()
      val records = (chunk.length - 8) / TripRecords.Bytes
      Platform.copyMemory(
        chunk, Platform.BYTE_ARRAY_OFFSET + 8,
        words, Platform.LONG_ARRAY_OFFSET + at.toLong * TripRecords.Bytes,
        records.toLong * TripRecords.Bytes)
      val role = Platform.getLong(chunk, Platform.BYTE_ARRAY_OFFSET).toByte
      java.util.Arrays.fill(roles, at, at + records, role)
      at += records
    }
    new TripTable(words, roles, at)
  }
}
