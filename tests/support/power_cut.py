"""What a disk may hold after a power cut, from what disk_shim.c wrote down.

    python3 power_cut.py LOG

reads requests from standard input, a line each: "P VARIANT SEED FOLDER". It builds in FOLDER what may be there if the power goes after the
first P records of the log, and answers with a line: the hash of that tree, and the newest checkpoint that was said to be saved (0: none).
"count" is answered with the number of records.

The model of the disk. Bytes of a file are on it once the file was synced; a name, or its removal, once its folder was. A rename is one
change of two folders, on the disk as a whole or not at all, and it is there once either folder was synced. Whatever was not asked for may be
there or not, in any order:

    lost     nothing of it
    names    every name, and of the bytes nothing: files are empty or end in zeros
    bytes    every byte, and no name
    some     drawn: of a write nothing, its first part, or all; of names some, later ones without earlier ones too
    kept     all of it, as after a kill

A checkpoint counts as said to be saved once the line of a later step is in metrics.jsonl. SQLite's shared memory (-shm) is left out."""
import hashlib
import json
import os
import random
import sys


class Node:
    def __init__(self, folder):
        self.folder = folder
        self.synced = {} if folder else bytearray()
        self.pending = []  # of a file: ("write", offset, bytes) and ("truncate", length), in order
        self.length = 0


def apply(content, change, share=1.0):
    if change[0] == "truncate":
        length = change[1]
        if length <= len(content):
            del content[length:]
        else:
            content.extend(bytes(length - len(content)))
        return
    _, offset, data = change
    data = data[:int(len(data) * share)]
    if not data:
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset:offset + len(data)] = data


class Disk:
    def __init__(self):
        self.root = Node(True)
        self.nodes = {}
        self.names = []  # changes of folders that may be lost, in order: lists of (folder, name, node or None)
        self.now = {}    # path: node, as the program sees it
        self.said = 0

    def folder_of(self, path):
        parent = os.path.dirname(path)
        return self.root if parent == "" else self.now[parent]

    def link(self, path, node):
        return (self.folder_of(path), os.path.basename(path), node)

    def move(self, old, new):
        for path in [p for p in self.now if p == old or p.startswith(old + "/")]:
            self.now[new + path[len(old):]] = self.now.pop(path)

    def step(self, call, inode, offset, length, paths, data):
        path = paths[0]
        if call in ("create", "mkdir"):
            node = self.nodes[inode] = Node(call == "mkdir")
            self.now[path] = node
            self.names.append([self.link(path, node)])
        elif call == "write":
            self.nodes[inode].pending.append(("write", offset, data))
            if os.path.basename(path) == "metrics.jsonl":
                for line in data.splitlines():
                    self.logged(line)
        elif call == "truncate":
            self.nodes[inode].pending.append(("truncate", length))
        elif call == "sync":
            node = self.nodes[inode]
            for change in node.pending:
                apply(node.synced, change)
            node.pending = []
        elif call == "sync-dir":
            node = self.root if path == "." else self.now[path]
            for change in [c for c in self.names if any(folder is node for folder, _, _ in c)]:
                self.take(change)
            self.names = [c for c in self.names if not any(folder is node for folder, _, _ in c)]
        elif call == "rename":
            node = self.now[path]
            for gone in [p for p in self.now if p == paths[1] or p.startswith(paths[1] + "/")]:
                del self.now[gone]
            self.names.append([self.link(path, None), self.link(paths[1], node)])
            self.move(path, paths[1])
        elif call == "exchange":
            a, b = self.now[path], self.now[paths[1]]
            self.names.append([self.link(path, b), self.link(paths[1], a)])
            self.move(path, "//")
            self.move(paths[1], path)
            self.move("//", paths[1])
        elif call in ("unlink", "rmdir"):
            self.names.append([self.link(path, None)])
            del self.now[path]
        else:
            raise ValueError(call)

    saves = ()

    def logged(self, line):
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError):
            return
        for save in self.saves:
            if self.said < save < step:
                self.said = save

    @staticmethod
    def take(change):
        for folder, name, node in change:
            if node is None:
                folder.synced.pop(name, None)
            else:
                folder.synced[name] = node

    def content(self, node, variant, rng):
        content = bytearray(node.synced)
        end = len(content)
        for change in node.pending:
            if variant in ("bytes", "kept"):
                apply(content, change)
            elif variant == "some":
                share = rng.choice((0.0, 1.0, rng.random()))
                if change[0] == "write" or share >= 0.5:
                    apply(content, change, share)
            elif variant == "names":
                end = change[1] if change[0] == "truncate" else max(end, change[1] + len(change[2]))
        if variant == "names" and rng.random() < 0.5:
            apply(content, ("truncate", end))
        return bytes(content)

    def build(self, out, variant, rng):
        for change in self.names:
            if variant in ("names", "kept") or (variant == "some" and rng.random() < 0.5):
                self.take(change)
        tree = hashlib.sha256()
        self.put(self.root, out, variant, rng, tree)
        return tree.hexdigest()

    def put(self, node, path, variant, rng, tree):
        os.mkdir(path)
        for name, child in sorted(node.synced.items()):
            if name.endswith("-shm"):
                continue
            tree.update(f"{path.count('/')} {name} {child.folder}\n".encode())
            if child.folder:
                self.put(child, os.path.join(path, name), variant, rng, tree)
            else:
                content = self.content(child, variant, rng)
                tree.update(hashlib.sha256(content).digest())
                with open(os.path.join(path, name), "wb") as file:
                    file.write(content)


def read_log(path):
    records = []
    with open(path, "rb") as file:
        while line := file.readline():
            call, inode, offset, length, paths = line.decode().rstrip("\n").split(" ", 4)
            data = file.read(int(length)) if call == "write" else b""
            records.append((call, int(inode), int(offset), int(length), paths.split("\t"), data))
    return records


def main():
    records = read_log(sys.argv[1])
    final = "checkpoints/step-"
    Disk.saves = sorted({int(p.rsplit("-", 1)[1]) for r in records if r[0] == "rename" for p in r[4][1:] if p.rsplit("/", 1)[-1].startswith("step-")
                         and final in p and ".cohort-" not in p})
    for line in sys.stdin:
        if line.strip() == "count":
            print(len(records), flush=True)
            continue
        cut, variant, seed, out = line.split()
        disk = Disk()
        for record in records[:int(cut)]:
            disk.step(*record)
        tree = disk.build(out, variant, random.Random(int(seed)))
        print(tree, disk.said, flush=True)


main()
