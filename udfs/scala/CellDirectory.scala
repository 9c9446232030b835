package org.apache.spark.sql.roundtrip

import java.util.Arrays

/** Where each cell's inbound trips lie in a slab: a hash table from cell key to a range, and within
  * the range where each band starts, unless a cell's bands are mostly empty.
  */
final class CellDirectory(slots: Int, trips: Int) {
  private val mask = slots - 1
  private val shift = 64 - Integer.numberOfTrailingZeros(slots)

  // Four words a slot, side by side in one cache line: the cell + 1 (0: free), its first trip and its
  // end, its first band and the number of bands (0: not listed), where these begin in `starts`.
  private val table = new Array[Long](slots * 4)
  private val starts = new Array[Int](5 * trips)
  private var used = 0

  private def home(cell: Long): Int = (cell * 0x9e3779b97f4a7c15L >>> shift).toInt
  private def high(pair: Long): Int = (pair >>> 32).toInt
  private def pair(high: Int, low: Int): Long = high.toLong << 32 | low

  /** An empty directory with room for so many cells and trips; this one where it is large enough. */
  def emptied(distinct: Int, inbound: Int): CellDirectory = {
    val wanted = Math.max(16, Integer.highestOneBit(Math.max(1, 2 * distinct - 1)) * 2)
    if (wanted <= slots && inbound <= trips) {
      Arrays.fill(table, 0L)
      used = 0
      this
    } else new CellDirectory(Math.max(wanted, slots), Math.max(inbound, trips))
  }

  /** Adds a cell whose trips are first until end, with their keys in ascending order. */
  def put(cell: Long, first: Int, end: Int, keys: Array[Int], lonBits: Int): Unit = {
    var slot = home(cell)
    while (table(slot * 4) != 0) slot = (slot + 1) & mask
    val low = keys(first) >>> lonBits
    val bands = (keys(end - 1) >>> lonBits) - low + 1
    val isListed = bands <= 4 * (end - first)
    table(slot * 4) = cell + 1
    table(slot * 4 + 1) = pair(first, end)
    table(slot * 4 + 2) = pair(low, if (isListed) bands else 0)
    table(slot * 4 + 3) = used
    if (isListed) {
      starts(used) = first
      used += 1
      var band = low
      var k = first
      while (k < end) {
        val here = keys(k) >>> lonBits
        while (band < here) {
          starts(used) = k
          used += 1
          band += 1
        }
        k += 1
      }
      starts(used) = end
      used += 1
    }
  }

  /** The slot of a cell, or -1. */
  def slotOf(cell: Long): Int = {
    var slot = home(cell)
    while (table(slot * 4) != 0 && table(slot * 4) != cell + 1) slot = (slot + 1) & mask
    if (table(slot * 4) == 0) -1 else slot
  }

  /** Where a slot's trips of one band lie, first and end in the upper and lower half; all of the
    * cell's trips where it is not listed by band.
    */
  def rangeOf(slot: Int, band: Int): Long = {
    val bands = table(slot * 4 + 2)
    val row = band - high(bands)
    if (bands.toInt == 0) table(slot * 4 + 1)
    else if (row < 0 || row >= bands.toInt) 0L
    else {
      val at = table(slot * 4 + 3).toInt + row
      pair(starts(at), starts(at + 1))
    }
  }
}
