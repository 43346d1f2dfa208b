"""Runs job.sql on a Flink cluster of one JobManager and one TaskManager, and tells what it costs. compare.sh calls it.

The CPU time is that of the two JVMs, user and system, from the job's arrival at the JobManager until it has finished,
its last checkpoint and files included. What came before is told beside it and not counted: the start of the JVMs, and
the SQL client, which parses and plans in a JVM of its own. The first run loads classes and compiles while it works; the
later ones, on the same cluster, come nearer to a job that runs for long. What each job costs before its first event and
after its last, however many come between, is told by a last one that has nothing to read.
"""

import argparse
import json
import os
import pathlib
import signal
import string
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pyarrow.compute
import pyarrow.dataset

HERE = pathlib.Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
START_WITHIN, JOB_WITHIN = 120, 3600
# Columns that no view reads: Flink's JSON format makes values of them all the same, as the table has them.
UNUSED_COLUMNS = """event_id STRING, user_id STRING, country STRING,
  device ROW<`type` STRING, os STRING>, utm ROW<source STRING>,"""


def fail(message):
    sys.exit(f"flink/bench.py: {message}")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--flink", required=True, type=pathlib.Path, help="Flink's home")
    parser.add_argument("--flink-version", required=True)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="an empty folder for everything it writes")
    parser.add_argument("--result", required=True, type=pathlib.Path, help="lines of events per CPU-second, and of what")
    parser.add_argument("--rpc-port", required=True, type=int)
    parser.add_argument("--rest-port", required=True, type=int)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--events", required=True, type=int, help="how many the topic holds")
    parser.add_argument("--runs", required=True, type=int)
    parser.add_argument("--workers", required=True, type=int)
    parser.add_argument("--memory", required=True, help="of the TaskManager's process")
    parser.add_argument("--columns", required=True, choices=["all", "used"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def configuration(args):
    values = {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.rpc.port": args.rpc_port,
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.memory.process.size": "1g",
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.memory.process.size": args.memory,
        "taskmanager.numberOfTaskSlots": args.workers,
        "rest.address": "127.0.0.1",
        "rest.port": args.rest_port,
        "rest.bind-address": "127.0.0.1",
        "execution.target": "remote",
        "io.tmp.dirs": args.work / "tmp",
        "parallelism.default": args.workers,
        # A failure has to end the run, and not to be worked off by a restart that nobody sees.
        "restart-strategy.type": "none",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": "1s",
        "execution.checkpointing.dir": f"file://{args.work}/checkpoints",
        "table.local-time-zone": "UTC",
        # Not Flink's default: it saves copies between chained operators, which is in Flink's favour.
        "pipeline.object-reuse": "true",
    }
    # Flink's scripts take these from the configuration that comes with it, since the JVM closed itself to reflection.
    for line in (args.flink / "conf/config.yaml").read_text().splitlines():
        if line.strip().startswith("all: --add-exports"):
            values["env.java.opts.all"] = line.split("all: ", 1)[1]
    for setting in args.set:
        key, equals, value = setting.partition("=")
        if not equals:
            fail(f"--set wants KEY=VALUE, not {setting!r}")
        values[key] = value
    return "".join(f"{key}: {json.dumps(str(value))}\n" for key, value in values.items())


def cpu_seconds(pid):
    # The command's name, in brackets, may hold anything; the numbers come after it.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_memory_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    fail(f"the system does not tell the peak memory of process {pid}")


class Cluster:
    def __init__(self, args):
        self.args, self.processes, self.client = args, {}, None
        conf = args.work / "conf"
        for folder in (conf, args.work / "tmp", args.work / "log"):
            folder.mkdir(parents=True)
        for name in ("log4j-console.properties", "log4j-cli.properties"):
            (conf / name).write_text((args.flink / "conf" / name).read_text())
        (conf / "config.yaml").write_text(configuration(args))
        log = str(args.work / "log")
        self.environment = {
            **os.environ, "FLINK_HOME": str(args.flink), "FLINK_CONF_DIR": str(conf), "FLINK_LOG_DIR": log,
            "FLINK_PID_DIR": log, "FLINK_IDENT_STRING": "bench",
        }

    def command(self, script, *rest):
        return ["bash", str(self.args.flink / "bin" / script), *rest]

    def start(self):
        for name in ("jobmanager", "taskmanager"):
            with open(self.args.work / "log" / f"{name}.out", "w") as out:
                # Flink's script ends as an exec of the JVM, so the process has the id that is known here.
                self.processes[name] = subprocess.Popen(
                    self.command(f"{name}.sh", "start-foreground"), env=self.environment, stdin=subprocess.DEVNULL,
                    stdout=out, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_WITHIN
        while not self.is_ready():
            self.check_alive()
            if time.monotonic() > deadline:
                self.show_logs()
                fail(f"Flink did not start within {START_WITHIN} s")
            time.sleep(0.2)
        # What is still being set up would otherwise be counted to the job.
        time.sleep(2)

    def stop(self):
        if self.client and self.client.poll() is None:
            self.client.kill()
        for process in self.processes.values():
            process.terminate()
        for name, process in self.processes.items():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                print(f"flink/bench.py: the {name} did not stop within 20 s and is killed", file=sys.stderr)
                process.kill()
                process.wait()

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.args.rest_port}{path}", timeout=30) as answer:
            return json.load(answer)

    def is_ready(self):
        try:
            return self.get("/overview")["slots-available"] == self.args.workers
        except (urllib.error.URLError, ConnectionError):
            return False

    def check_alive(self):
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.show_logs()
                fail(f"the {name} of Flink left with exit code {process.returncode}")

    def show_logs(self):
        for path in sorted((self.args.work / "log").iterdir()):
            if path.suffix in (".out", ".log") and path.stat().st_size > 0:
                lines = path.read_text(errors="replace").splitlines()[-30:]
                print(f"--- last lines of {path.name}", *lines, sep="\n", file=sys.stderr)

    def cpu(self):
        return {name: cpu_seconds(process.pid) for name, process in self.processes.items()}

    def peak_memory_mib(self):
        return sum(peak_memory_bytes(process.pid) for process in self.processes.values()) >> 20


class Run:
    def __init__(self, cluster, number, empty=False):
        self.cluster, self.args, self.number = cluster, cluster.args, number
        # Of a topic that ends at the first record from 1970 on, nothing is read.
        self.end = "timestamp', 'scan.bounded.timestamp-millis' = '1" if empty else "latest-offset"
        self.out = self.args.work / f"out-{number}"

    def measure(self):
        known = self.jobs()
        client = self.cluster.client = self.submit()
        before, job = self.await_arrival(client, known)
        self.await_end(job)
        after = self.cluster.cpu()
        _, status, usage = os.wait4(client.pid, 0)
        if status != 0:
            print(self.client_log.read_text(), file=sys.stderr)
            fail(f"Flink's SQL client left with status {status}")
        self.planning = usage.ru_utime + usage.ru_stime
        self.cpu = {name: after[name] - before[name] for name in after}
        self.cpu_total = sum(self.cpu.values())
        self.detail = self.cluster.get(f"/jobs/{job}")
        self.checkpoints = self.cluster.get(f"/jobs/{job}/checkpoints")["counts"]
        self.wall = (self.detail["end-time"] - self.detail["start-time"]) / 1000

    def submit(self):
        statements = string.Template((HERE / "job.sql").read_text()).substitute(
            brokers=self.args.brokers, topic=self.args.topic, end=self.end, out=self.out,
            unused_columns=UNUSED_COLUMNS if self.args.columns == "all" else "")
        script = self.args.work / f"job-{self.number}.sql"
        script.write_text(statements)
        self.client_log = self.args.work / "log" / f"sql-client-{self.number}.out"
        with open(self.client_log, "w") as out:
            return subprocess.Popen(
                self.cluster.command("sql-client.sh", "-f", str(script)), env=self.cluster.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def jobs(self):
        return {job["id"] for job in self.cluster.get("/jobs")["jobs"]}

    def await_arrival(self, client, known):
        """The CPU time just before the job came, and its id."""
        deadline = time.monotonic() + START_WITHIN
        while True:
            before = self.cluster.cpu()
            new = self.jobs() - known
            if new:
                return before, new.pop()
            # Left as it is for wait4, which alone tells the CPU time.
            left = os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if left or time.monotonic() > deadline:
                if not left:
                    client.kill()
                print(self.client_log.read_text(), file=sys.stderr)
                fail("Flink's SQL client submitted no job")
            self.cluster.check_alive()
            time.sleep(0.02)

    def await_end(self, job):
        deadline = time.monotonic() + JOB_WITHIN
        while (state := self.cluster.get(f"/jobs/{job}/status")["status"]) != "FINISHED":
            self.cluster.check_alive()
            if state in ("FAILING", "FAILED", "CANCELED", "SUSPENDED"):
                for entry in self.cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]:
                    print(entry["stacktrace"], file=sys.stderr)
                fail(f"Flink's job is {state}")
            if time.monotonic() > deadline:
                fail(f"Flink's job is {state} after {JOB_WITHIN} s")
            time.sleep(0.2)

    def report(self, started):
        events = self.args.events
        warmth = "JVMs cold" if self.number == 1 else "JVMs warm"
        print(f"flink {self.args.flink_version}, run {self.number}, {warmth}: {events} events in {self.wall:.2f} s, "
              f"{events / self.wall:.0f} events/s, {events / self.cpu_total:.0f} events per CPU-second")
        print(f"  CPU-seconds: {self.cpu_total:.1f} (TaskManager {self.cpu['taskmanager']:.1f}, JobManager "
              f"{self.cpu['jobmanager']:.1f}); not counted: start of both {started:.1f}, SQL client and planning "
              f"{self.planning:.1f}")
        # Failed are also those that Flink tries before all tasks run, or when the first have ended.
        sources = sum("Source:" in vertex["name"] for vertex in self.detail["vertices"])
        reads = "once" if sources == 1 else f"{sources} times"
        print(f"  reads the topic {reads}, parallelism {self.args.workers}, {self.checkpoints['completed']} checkpoints "
              f"({self.checkpoints['failed']} failed), peak memory {self.cluster.peak_memory_mib()} MiB")
        views = ", ".join(self.check(view) for view in ("by_type", "by_product"))
        print(f"  Parquet: {views}", flush=True)

    def check(self, view):
        """What the view's Parquet files hold; ends the run if it cannot be right."""
        files = list((self.out / view).glob("part-*"))
        if not files:
            fail(f"Flink wrote no Parquet file for {view}")
        table = pyarrow.dataset.dataset(files, format="parquet").to_table(columns=["events"])
        counted = pyarrow.compute.sum(table["events"]).as_py()
        # Some of a topic of one's own may be late. The bench's clicks never are.
        if not self.args.events * 0.9 < counted <= self.args.events:
            fail(f"{view} counts {counted} events of {self.args.events}")
        late = self.args.events - counted
        return f"{view} {table.num_rows} rows in {len(files)} files" + (f" ({late} events late)" if late else "")


def main():
    args = arguments()
    # The cluster is stopped in `finally`, which a signal's default would jump over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    cluster = Cluster(args)
    try:
        cluster.start()
        started = sum(cluster.cpu().values())
        runs = [Run(cluster, number) for number in range(1, args.runs + 1)]
        for run in runs:
            run.measure()
            run.report(started)
        empty = Run(cluster, args.runs + 1, empty=True)
        empty.measure()
        print(f"flink {args.flink_version}, a job with nothing to read, JVMs warm: {empty.wall:.2f} s, "
              f"{empty.cpu_total:.1f} CPU-seconds", flush=True)
        results = [(run.cpu_total, f"run {run.number} of Flink") for run in runs]
        if (cpu := runs[-1].cpu_total - empty.cpu_total) > 0:
            results.append((cpu, f"run {runs[-1].number} of Flink, less a job with nothing to read"))
        args.result.write_text("".join(f"{args.events / cpu:.0f} {what}\n" for cpu, what in results))
    finally:
        cluster.stop()


main()
