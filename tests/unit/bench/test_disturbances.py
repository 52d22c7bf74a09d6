"""What a soak has done to a sidecar."""

from bench.disturbances import Done


def test_a_bundle_that_no_answer_names_did_not_serve_whatever_else_they_name() -> None:
    done = Done(published=["small@1", "small@2", "small@3"], served={"small@0", "encoder@1"})
    assert (done.swaps, done.unserved) == (3, 3)
    done.served |= {"small@1", "small@3"}
    assert done.unserved == 1
