# Spark's environment for a shell, bash or zsh, in a checkout after `make setup`:
#
#     source spark-conf/env.sh
#     spark-submit jobs/ingest_trips.py FILE.csv --lake lake

if [ -n "${ZSH_VERSION:-}" ]; then
    eval '_conf=${(%):-%x}'
else
    _conf=${BASH_SOURCE[0]}
fi
_conf=$(cd "$(dirname "$_conf")" && pwd)
_venv=$(dirname "$_conf")/.venv

if [ -x "$_venv/bin/python" ]; then
    SPARK_HOME=$(echo "$_venv"/lib/python3*/site-packages/pyspark)
    export SPARK_HOME
    export SPARK_CONF_DIR="$_conf"
    export PYSPARK_PYTHON="$_venv/bin/python"
    case ":$PATH:" in
        *":$_venv/bin:"*) ;;
        *) export PATH="$_venv/bin:$PATH" ;;
    esac
    unset _conf _venv
else
    echo "$_venv is not there: run \`make setup\` first" >&2
    unset _conf _venv
    false
fi
