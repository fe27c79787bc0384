"""What the commands measure of a dense network and of what became of it: the fields of a ledger row that both share."""

ROUNDS = 50  # in which the two take turns to be timed


def compare(dense, smaller, test, *, counted=None) -> dict:
    """Accuracy, bytes on disk, multiply–adds and latency, before and after.

    Parameters
    ----------
    dense, smaller : nn.Module
        On the CPU, for images.
    test : images and labels, ``(N, C, H, W)`` uint8 and ``(N,)`` int64; the first image is the one that is timed.
    counted : a network with the multiply–adds of ``smaller``, if those cannot be counted, as of int8 kernels.

    Returns
    -------
    dict
        Fields of ``ledger.schema.json``.
    """
    from compress_lib import data

    image = data.normalize(test[0][:1])
    return {
        **quality_and_size(dense, smaller, test, counted=counted),
        "latency_ratio": timing(dense, smaller, image)["ratio"],
    }


def quality_and_size(dense, smaller, test, *, counted=None) -> dict:
    """What `compare` gives, without the latency."""
    from compress_lib import cost, training

    shape = tuple(test[0].shape[1:])
    return {
        "test_images": len(test[0]),
        "accuracy_before": training.accuracy(dense, *test),
        "accuracy_after": training.accuracy(smaller, *test),
        "nbytes_before": cost.nbytes_on_disk(dense),
        "nbytes_after": cost.nbytes_on_disk(smaller),
        "macs_before": cost.count(dense, shape).macs,
        "macs_after": cost.count(smaller if counted is None else counted, shape).macs,
    }


def timing(dense, smaller, images) -> dict:
    """Seconds of both, and their ratio in the form of ``ledger.schema.json``.

    Parameters
    ----------
    dense, smaller : nn.Module
        On the CPU.
    images : ``(N, C, H, W)``, normalised; all are given at once. One thread.

    Returns
    -------
    dict
        ``seconds_before`` and ``seconds_after``, medians for all ``N`` images, and ``ratio``.
    """
    from compress_lib import cost

    rows = cost.latency({"dense": lambda: dense(images), "smaller": lambda: smaller(images)}, rounds=ROUNDS, threads=1)
    before, after = rows
    ratio = {"median": after.ratio, "low": after.ratio_low, "high": after.ratio_high}
    return {
        "seconds_before": before.seconds_median,
        "seconds_after": after.seconds_median,
        "ratio": ratio | {"batch": len(images), "threads": rows.threads},
    }


def through_file(model, path, images, *, into=None, **saving):
    """Write a network to a file and read it back: what the commands measure is what came out of a file.

    Parameters
    ----------
    model : nn.Module
    path : path of the file.
    images : of the test set; on them the two networks must have the same logits.
    into : the network to load into, if the file does not say which.
    saving : as for `container.save`.

    Returns
    -------
    (nn.Module, Budget)
        The network that was read back, and where the bytes of the file went.

    Raises
    ------
    RuntimeError
        If it has other logits, in one bit, than the one that was written.
    """
    from compress_lib import training
    from compress_lib.coding import container

    budget = container.save(model, path, **saving)
    restored = container.load(path, into)
    if not training.predict(restored, images).equal(training.predict(model, images)):
        raise RuntimeError(f"{path} does not give back the network that was written to it")
    return restored, budget
