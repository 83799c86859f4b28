"""Programs for the loss matrix: `python programs.py NAME` ends in the way that NAME says."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import wafermonitor.instrumentation as wafer


def ready() -> None:
    """The test may strike now; the run is open."""
    print("ready", flush=True)
    while True:
        time.sleep(0.05)  # not pause(): a signal that comes just before it is noticed only by the next one


def normal() -> None:
    with wafer.job("outer", lot_ids=["L1"]) as job:
        with job.subjob("inner", substrate_ids=["L1-01"]) as inner:
            inner.set("wafer.param.dies", 7)
        job.progress(1, 2, unit="wafer")


def exception() -> None:
    with wafer.job("outer"):
        raise ValueError("no such lot")


def sys_exit() -> None:
    with wafer.job("outer"):
        sys.exit(3)


def sigterm() -> None:
    with wafer.job("outer") as job, job.subjob("inner"):
        ready()


def own_handler() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with wafer.job("outer"):
        ready()


def os_exit_inside() -> None:
    with wafer.job("outer"):
        os._exit(4)


def os_exit_after() -> None:
    with wafer.job("outer"):
        pass
    os._exit(0)


def fork() -> None:
    with wafer.job("outer"):
        child = os.fork()
        if child == 0:
            with wafer.job("child"):
                pass
            sys.exit(0)
        os.waitpid(child, 0)


def fork_plain() -> None:
    """The child makes no run, only a span of OpenTelemetry's own API."""
    from opentelemetry import trace

    wafer.install()
    with wafer.job("outer"):
        child = os.fork()
        if child == 0:
            with trace.get_tracer("library").start_as_current_span("plain"):
                pass
            sys.exit(0)
        os.waitpid(child, 0)


def work(number: int) -> int:
    with wafer.subjob("work", params={"number": number}):
        return number


def spawn() -> None:
    with wafer.job("outer"):
        child = multiprocessing.get_context("spawn").Process(target=wafer.bind(work), args=(1,))
        child.start()
        child.join()


def pool() -> None:
    with wafer.job("outer"), multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as workers:
        workers.map(work, range(4), chunksize=1)


def executor() -> None:
    with wafer.job("outer"), concurrent.futures.ProcessPoolExecutor(2) as workers:
        list(workers.map(work, range(4)))


def killed_worker() -> None:
    with wafer.job("outer"), concurrent.futures.ProcessPoolExecutor(1) as workers:
        workers.submit(os._exit, 1).result()


def threads() -> None:
    with wafer.job("outer"), concurrent.futures.ThreadPoolExecutor(4) as workers:
        list(workers.map(wafer.bind(work), range(8)))


def daemon_thread() -> None:
    entered = threading.Event()

    def stay() -> None:
        with wafer.job("outer"):
            entered.set()
            threading.Event().wait()

    threading.Thread(target=stay, daemon=True).start()
    entered.wait()


def tasks() -> None:
    async def one(number: int) -> None:
        async with wafer.subjob("work", params={"number": number}):
            await asyncio.sleep(0)

    async def main() -> None:
        async with wafer.job("outer"):
            await asyncio.gather(*(one(number) for number in range(8)))

    asyncio.run(main())


def cancelled_task() -> None:
    entered = asyncio.Event()

    async def stay() -> None:
        async with wafer.job("outer"):
            entered.set()
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(stay())
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def subprocess_child() -> None:
    with wafer.job("outer") as job:
        subprocess.run([sys.executable, __file__, "normal"], env=job.env(), check=True)


def interrupted_subprocess() -> None:
    # The child says ready, and ends when this process does.
    waits = "import sys; print('ready', flush=True); sys.stdin.read()"
    end, _held = os.pipe()
    with wafer.job("outer"):
        subprocess.run([sys.executable, "-c", waits], stdin=end, check=False)


def bar() -> None:
    with wafer.job("outer") as job:
        for _ in job.track(range(3), unit="wafer"):
            pass


def many() -> None:
    import time

    began = time.perf_counter()
    for _ in range(50):
        with wafer.job("outer"):
            pass
    print(time.perf_counter() - began)


def secrets() -> None:
    logging.basicConfig(level=logging.INFO)
    with wafer.job("outer"):
        logging.getLogger("program").info("reading %s", "lot 7")
        try:
            subprocess.run(["false", *sys.argv[2:]], check=True)
        except subprocess.CalledProcessError:
            logging.getLogger("program").exception("the tool failed")
        subprocess.run(["false", *sys.argv[2:]], check=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests in the background ignores it
    globals()[sys.argv[1]]()
