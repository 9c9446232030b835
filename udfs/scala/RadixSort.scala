package org.apache.spark.sql.roundtrip

/** Stable least-significant-digit radix sort of 64-bit keys, each with a number beside it. */
object RadixSort {
  private val Digit = 11

  /** Sorted keys and their numbers; the arguments are used up. Only the low `bits` may be set. */
  def apply(keys: Array[Long], numbers: Array[Int], bits: Int): (Array[Long], Array[Int]) = {
    var from = keys
    var fromNumbers = numbers
    var to = new Array[Long](keys.length)
    var toNumbers = new Array[Int](keys.length)
    var shift = 0
    while (shift < bits) {
      pass(from, fromNumbers, to, toNumbers, shift)
      val k = from
      from = to
      to = k
      val v = fromNumbers
      fromNumbers = toNumbers
      toNumbers = v
      shift += Digit
    }
    (from, fromNumbers)
  }

  private def pass(from: Array[Long], fromNumbers: Array[Int], to: Array[Long], toNumbers: Array[Int], shift: Int): Unit = {
    val size = 1 << Digit
    val at = new Array[Int](size + 1)
    var i = 0
    while (i < from.length) {
      at(((from(i) >>> shift) & (size - 1)).toInt + 1) += 1
      i += 1
    }
    i = 0
    while (i < size) {
      at(i + 1) += at(i)
      i += 1
    }
    i = 0
    while (i < from.length) {
      val key = from(i)
      val digit = ((key >>> shift) & (size - 1)).toInt
      val t = at(digit)
      at(digit) = t + 1
      to(t) = key
      toNumbers(t) = fromNumbers(i)
      i += 1
    }
  }
}
