"""Images of the size that people run, made byte for byte the same each time: layers like a distribution's, of
many small files and some large ones, that gzip to about a third.

Contents are slices of three pools (text of Zipf's law, records like a program's, noise), which are much longer
than gzip's window: what a compressor finds is what it would find in such files.
"""
import array
import bisect
import concurrent.futures
import hashlib
import io
import itertools
import json
import os
import random
import struct
import tarfile
import zlib

VERSION = "1"  # of the recipe: a cache of another one is made anew
POOL = 8 << 20
MIB = 1 << 20
# Unpacked MiB of each layer: a base, packages, a large one, and small ones on top.
SIZES = {
    "medium": (120, 60, 270, 150, 40, 18, 4),
    "large": (120, 700, 300, 1100, 550, 280, 30, 3),
}


class Pools:
    def __init__(self):
        rng = random.Random(1)
        words = ["".join(rng.choices("etaoinshrdlucmfwypvbgk_", k=rng.randint(2, 11))) for _ in range(20000)]
        weights = list(itertools.accumulate(1 / (i + 3) for i in range(len(words))))
        phrases = [" ".join(rng.choices(words, cum_weights=weights, k=rng.randint(2, 6))) for _ in range(6000)]
        phrases += rng.choices(words, cum_weights=weights, k=14000)
        ends = rng.choices((" ", " ", ", ", ".\n", "(", ");\n", " = "), k=POOL // 8)
        text = "".join(itertools.chain.from_iterable(zip(rng.choices(phrases, cum_weights=weights, k=POOL // 8), ends)))
        opcodes = bytes(bisect.bisect(weights, rng.random() * weights[255]) & 255 for _ in range(65536))
        records = array.array("Q")
        at = 0x400000
        for i in range(POOL // 24):
            at += rng.choice((8, 16, 16, 16, 32, 48))
            code = rng.randrange(2048)
            records.extend((at, *struct.unpack("<QQ", opcodes[code:code + 8] + (at & ~0xfff | i & 7).to_bytes(8, "little"))))
        self.pools = (text.encode()[:POOL], records.tobytes()[:POOL], rng.randbytes(POOL))

    def content(self, rng, size):
        kind = rng.choices((0, 1, 2), (62, 34, 4))[0]
        parts = []
        while size > 0:
            pool = self.pools[kind if rng.random() < 0.98 else 2]
            n = min(size, rng.randrange(8192, 65536))
            start = rng.randrange(POOL - n)
            parts.append(pool[start:start + n])
            size -= n
        return b"".join(parts)


class Sink:
    """Hashes, compresses, hashes and writes."""

    def __init__(self, path):
        self.buffer, self.written = bytearray(), 0
        self.file = open(path, "wb")
        self.raw, self.packed, self.size = hashlib.sha256(), hashlib.sha256(), 0
        self.deflate = zlib.compressobj(6, zlib.DEFLATED, 31)

    def tell(self):
        return self.written

    def put(self, data):
        self.packed.update(data)
        self.size += len(data)
        self.file.write(data)

    def write(self, data):
        self.buffer += data
        self.written += len(data)
        if len(self.buffer) >= MIB:
            self.pack()
        return len(data)

    def pack(self):
        self.raw.update(self.buffer)
        self.put(self.deflate.compress(self.buffer))
        self.buffer.clear()

    def end(self):
        self.pack()
        self.put(self.deflate.flush())
        self.file.close()
        return {"diff_id": "sha256:" + self.raw.hexdigest(), "digest": "sha256:" + self.packed.hexdigest(),
                "size": self.size}


def file_size(rng):
    """Half of the files are below 5 KB, and half of the bytes in those above a megabyte, about."""
    if rng.random() < 0.004:
        return int(rng.lognormvariate(15, 0.9)) & ~511
    return min(int(rng.lognormvariate(8.4, 1.5)), 64 * MIB)


def make_layer(name, number, size, path):
    rng, pools, sink = random.Random(f"{name}/{number}"), Pools(), Sink(path)
    left, inodes = size * MIB, 0
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
        while left > 0:
            folder = f"usr/{rng.choice(('lib', 'share', 'lib/python3'))}/package-{number}-{inodes}"
            for directory in (folder, folder + "/data"):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, 1700000000 + inodes
                tar.addfile(entry)
            for _ in range(rng.randrange(3, 60)):
                entry = tarfile.TarInfo(f"{folder}/{rng.choice(('', 'data/'))}{rng.randrange(1 << 40):x}.{inodes}")
                entry.mode, entry.mtime = rng.choice((0o644, 0o644, 0o644, 0o755)), 1700000000 + inodes
                inodes += 1
                if rng.random() < 0.04:
                    entry.type, entry.linkname = tarfile.SYMTYPE, "../something/else"
                    tar.addfile(entry)
                    continue
                entry.size = min(file_size(rng), max(left, 4096))
                left -= entry.size
                tar.addfile(entry, io.BytesIO(pools.content(rng, entry.size)))
                if left <= 0:
                    break
    return {**sink.end(), "inodes": inodes}


def make(name, directory):
    """The layers of image `name` as files below directory, made if they aren't there; returns their list."""
    listing = os.path.join(directory, f"{name}-{VERSION}.json")
    if not os.path.exists(listing):
        os.makedirs(directory, exist_ok=True)
        paths = [os.path.join(directory, f"{name}-{VERSION}-{i}") for i in range(len(SIZES[name]))]
        order = sorted(range(len(paths)), key=lambda i: -SIZES[name][i])
        with concurrent.futures.ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            made = {i: pool.submit(make_layer, name, i, SIZES[name][i], paths[i]) for i in order}
            layers = [{**made[i].result(), "path": path} for i, path in enumerate(paths)]
        with open(listing + ".new", "w", encoding="utf-8") as f:
            json.dump(layers, f)
        os.rename(listing + ".new", listing)
    with open(listing, encoding="utf-8") as f:
        return json.load(f)


class StoredLayer:
    """What oci.Image wants of a layer, from a file."""

    def __init__(self, layer):
        self.diff_id, self.digest, self.path = layer["diff_id"], layer["digest"], layer["path"]

    @property
    def blob(self):
        with open(self.path, "rb") as f:
            return f.read()
