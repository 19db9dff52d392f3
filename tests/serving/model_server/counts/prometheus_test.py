"""Counters, histograms and their page in the form of the real server's exporter.

Source: TF Serving util/prometheus_exporter.cc, TensorFlow core/lib/monitoring/sampler.h.
"""

import threading

from serving.model_server.counts import prometheus
from serving.model_server.counts.prometheus import Counter, Histogram


def test_counter_counts_each_set_of_labels():
    counter = Counter(":a:count", ["model_name", "status"])
    counter.labels("toy", "OK").increment()
    counter.labels("toy", "OK").increment(2)
    counter.labels("", "NOT_FOUND").increment()
    assert counter.lines() == [
        "# TYPE :a:count counter",
        ':a:count{model_name="",status="NOT_FOUND"} 1',
        ':a:count{model_name="toy",status="OK"} 3',
    ]


def test_histogram_buckets_rise_and_end_with_all():
    histogram = Histogram(":a:latency", ["model_name"])
    for value in (9.9, 10.0, 17.9, 18.0, 1e12):
        histogram.labels("toy").observe(value)
    lines = histogram.lines()
    # A bucket holds what is below its limit: 10 * 1.8^n for n of 0 to 32, then all.
    assert lines[:5] == [
        "# TYPE :a:latency histogram",
        ':a:latency_bucket{model_name="toy",le="10"} 1',
        ':a:latency_bucket{model_name="toy",le="18"} 3',
        ':a:latency_bucket{model_name="toy",le="32.4"} 4',
        ':a:latency_bucket{model_name="toy",le="58.32"} 4',
    ]
    assert lines[33] == f':a:latency_bucket{{model_name="toy",le="{10 * 1.8**32:.6g}"}} 4'
    assert lines[34:] == [
        ':a:latency_bucket{model_name="toy",le="+Inf"} 5',
        ':a:latency_sum{model_name="toy"} 1000000000055.8',
        ':a:latency_count{model_name="toy"} 5',
    ]


def test_label_values_are_escaped():
    counter = Counter("c", ["m"])
    counter.labels('a"b\\c\nd').increment()
    assert counter.lines()[1] == r'c{m="a\"b\\c\nd"} 1'


def test_names_nobody_serves_do_not_grow_the_page_without_end(monkeypatch):
    monkeypatch.setattr(prometheus, "_MAX_CHILDREN", 3)
    counter = Counter("c", ["m"])
    for number in range(10):
        counter.labels(f"m{number}").increment()
    assert counter.lines()[1:] == ['c{m=""} 7', 'c{m="m0"} 1', 'c{m="m1"} 1', 'c{m="m2"} 1']


def test_counts_of_many_threads_add_up():
    counter, histogram = Counter("c", []), Histogram("h", [])

    def count():
        for _ in range(2000):
            counter.labels().increment()
            histogram.labels().observe(1.0)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.lines()[1] == "c{} 8000"
    assert histogram.lines()[-1] == "h_count{} 8000"
