from entrepot.httpcache.partial import UNSATISFIABLE, content_range, requested_span


def test_without_a_range_field_the_whole_is_meant():
    assert requested_span(None, 10) is None


def test_spans_are_half_open_and_content_range_counts_the_last_byte_in():
    assert requested_span("bytes=2-5", 10) == (2, 6)
    assert content_range((2, 6), 10) == "bytes 2-5/10"


def test_a_range_past_the_end_has_no_span():
    assert requested_span("bytes=10-", 10) is UNSATISFIABLE
    assert content_range(None, 10) == "bytes */10"
