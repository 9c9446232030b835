package org.apache.spark.sql.roundtrip

import org.apache.spark.sql.{DataFrame, SparkSession}
import org.apache.spark.sql.catalyst.expressions.{And, Attribute, AttributeReference, AttributeSet}
import org.apache.spark.sql.catalyst.planning.PhysicalOperation
import org.apache.spark.sql.catalyst.plans.logical.LogicalPlan
import org.apache.spark.sql.classic.{Dataset, SparkSession => ClassicSession}
import org.apache.spark.sql.execution.{FilterExec, ProjectExec, SparkPlan, SparkStrategy}
import org.apache.spark.sql.types.{DoubleType, LongType, StructField, StructType}

/** All (outbound, return) pairs within a radius and a window.
  *
  * One child where both sides are the same trips, else outbound and inbound. Each has the columns
  * `ReturnTripJoin.input`, in this order.
  */
case class ReturnTripJoin(
    children: Seq[LogicalPlan], radiusM: Double, windowUs: Long, override val output: Seq[Attribute])
    extends LogicalPlan {
  // Columns are read by place, so the optimizer must not prune any.
  @transient override lazy val references: AttributeSet = AttributeSet(children.flatMap(_.output))

  override def producedAttributes: AttributeSet = outputSet

  override def maxRows: Option[Long] = None

  override protected def withNewChildrenInternal(newChildren: IndexedSeq[LogicalPlan]): LogicalPlan =
    copy(children = newChildren)
}

object ReturnTripJoin {
  val input: StructType = StructType(
    Seq("trip_id", "pickup_us", "dropoff_us").map(StructField(_, LongType)) ++
      Seq("pickup_lat", "pickup_lon", "dropoff_lat", "dropoff_lon").map(StructField(_, DoubleType)))

  val output: StructType = StructType(
    Seq("trip_id", "return_trip_id", "dropoff_us", "wait_us").map(StructField(_, LongType, nullable = false)) ++
      Seq("dropoff_gap_m", "pickup_gap_m").map(StructField(_, DoubleType, nullable = false)))

  /** The pairs as a DataFrame with the columns `output`; nothing runs yet.
    *
    * @param radiusM metres, above 0
    * @param windowUs microseconds, above 0
    */
  def pairs(outbound: DataFrame, inbound: DataFrame, radiusM: Double, windowUs: Long): DataFrame = {
    require(radiusM > 0 && windowUs > 0, s"radius ($radiusM m) and window ($windowUs us) must be above 0")
    val sides = if (outbound.sameSemantics(inbound)) Seq(outbound) else Seq(outbound, inbound)
    val plans = sides.map { side =>
      val columns = input.map(f => side.col(f.name).cast(f.dataType))
      side.select(columns: _*).asInstanceOf[Dataset[_]].queryExecution.analyzed
    }
    val session = outbound.sparkSession.asInstanceOf[ClassicSession]
    register(session)
    val attributes = output.map(f => AttributeReference(f.name, f.dataType, f.nullable)())
    Dataset.ofRows(session, ReturnTripJoin(plans, radiusM, windowUs, attributes))
  }

  private def register(session: SparkSession): Unit = {
    val experimental = session.asInstanceOf[ClassicSession].experimental
    experimental.synchronized {
      if (!experimental.extraStrategies.contains(ReturnTripStrategy))
        experimental.extraStrategies = experimental.extraStrategies :+ ReturnTripStrategy
    }
  }
}

/** Plans the join with only those columns that are asked for: counting pairs computes no distances. */
object ReturnTripStrategy extends SparkStrategy {
  override def apply(plan: LogicalPlan): Seq[SparkPlan] = plan match {
    case PhysicalOperation(projects, filters, join: ReturnTripJoin) =>
      val needed = AttributeSet(projects.flatMap(_.references) ++ filters.flatMap(_.references))
      val columns = join.output.indices.filter(i => needed.contains(join.output(i)))
      val exec: SparkPlan = ReturnTripJoinExec(
        join.children.map(planLater), join.radiusM, join.windowUs, columns.map(join.output), columns)
      val filtered = filters.reduceOption(And).map(FilterExec(_, exec)).getOrElse(exec)
      Seq(if (projects == filtered.output) filtered else ProjectExec(projects, filtered))
    case _ => Nil
  }
}
