# What spark-submit and pyspark run first, see bin/load-spark-env.sh of Spark's.
#
# Spark's own page, http://localhost:4040, shows plans, paths and settings to whoever can reach it,
# and listens to all the network unless this variable says otherwise; no setting does. A local master
# needs nobody else to reach it. Another one's executors do, so there it is left as it is: where the
# arguments name a master, or a file that takes the place of spark-defaults.conf and may name one.

case " $* " in
    *" org.apache.spark.deploy.SparkSubmit "*) ;;
    *) return 0 ;;
esac

# A gate ends before Java's second compiler has earned back what it costs: with the first alone it
# takes two thirds of the time. (A job that goes through all rows takes longer then.)
case " $* " in
    *[/\ ]check_quality.py\ * | *[/\ ]status.py\ *)
        SPARK_SUBMIT_OPTS="${SPARK_SUBMIT_OPTS:-} -XX:TieredStopAtLevel=1"
        ;;
esac

case " $* " in
    *" --master local"* | *" --master=local"* | *" spark.master=local"*) ;;
    *" --master "* | *" --master="* | *" spark.master="*) return 0 ;;
    *" --load-spark-defaults "*) ;;
    *" --properties-file"*) return 0 ;;
esac
SPARK_LOCAL_IP=${SPARK_LOCAL_IP:-127.0.0.1}
