// Makes a WebM of MediaRecorder seekable: it is written as a live stream, without a duration and without an index.
// Elements are those of RFC 8794 (EBML) and RFC 9559 (Matroska).

const SEGMENT = 0x18538067, INFO = 0x1549a966, TRACKS = 0x1654ae6b, CLUSTER = 0x1f43b675, CUES = 0x1c53bb6b;
const SEEK_HEAD = 0x114d9b74, VOID = 0xec, TIMESTAMP = 0xe7, TIMESTAMP_SCALE = 0x2ad7b1, DURATION = 0x4489;
const SIMPLE_BLOCK = 0xa3, BLOCK_GROUP = 0xa0, BLOCK = 0xa1;
const TRACK_ENTRY = 0xae, TRACK_NUMBER = 0xd7, TRACK_TYPE = 0x83, VIDEO = 1;

/** The id and size of the element at a place: { id, body, end }; an unknown size ends with its parent. */
function elementAt(bytes, at, limit) {
  const idBytes = Math.clz32(bytes[at]) - 23, sizeAt = at + idBytes, sizeBytes = Math.clz32(bytes[sizeAt]) - 23;
  if (idBytes > 4 || sizeBytes > 8) throw new Error("this is no EBML");
  let id = 0, size = bytes[sizeAt] & (0xff >> sizeBytes), unknown = size === 0xff >> sizeBytes;
  for (let i = 0; i < idBytes; i++) id = id * 256 + bytes[at + i];
  for (let i = 1; i < sizeBytes; i++) {
    size = size * 256 + bytes[sizeAt + i];
    unknown &&= bytes[sizeAt + i] === 0xff;
  }
  const body = sizeAt + sizeBytes;
  return { id, at, body, end: unknown ? limit : Math.min(body + size, limit), unknown };
}

function* children(bytes, parent) {
  for (let at = parent.body; at < parent.end;) {
    const element = elementAt(bytes, at, parent.end);
    yield element;
    at = element.end;
  }
}

const uint = (bytes, { body, end }) => bytes.subarray(body, end).reduce((value, byte) => value * 256 + byte, 0);

/** An element with a size of eight bytes. */
function element(id, ...parts) {
  const length = parts.reduce((sum, part) => sum + part.length, 0), head = [];
  for (let rest = id; rest; rest = Math.floor(rest / 256)) head.unshift(rest % 256);
  const bytes = new Uint8Array(head.length + 8 + length), view = new DataView(bytes.buffer);
  bytes.set(head);
  view.setBigUint64(head.length, BigInt(length) | 1n << 56n);
  let at = head.length + 8;
  for (const part of parts) { bytes.set(part, at); at += part.length; }
  return bytes;
}

function number(value, float = false) {
  const bytes = new Uint8Array(8), view = new DataView(bytes.buffer);
  if (float) view.setFloat64(0, value);
  else view.setBigUint64(0, BigInt(value));
  return bytes;
}

/** Clusters, each with its own end although its size may be unknown, and what is needed of the blocks in them. */
function scan(bytes, segment) {
  const found = { info: null, tracks: null, clusters: [], last: 0, scale: 1e6, video: 1 };
  for (let at = segment.body; at < segment.end;) {
    const top = elementAt(bytes, at, segment.end);
    at = top.end;
    if (top.id === INFO) {
      found.info = top;
      for (const child of children(bytes, top)) if (child.id === TIMESTAMP_SCALE) found.scale = uint(bytes, child);
    } else if (top.id === TRACKS) {
      found.tracks = top;
      for (const entry of children(bytes, top)) if (entry.id === TRACK_ENTRY) noteVideo(bytes, entry, found);
    } else if (top.id === CLUSTER) {
      at = scanCluster(bytes, top, segment.end, found);
    }
  }
  return found;
}

function noteVideo(bytes, entry, found) {
  const values = Object.fromEntries([...children(bytes, entry)].map((child) => [child.id, child]));
  if (uint(bytes, values[TRACK_TYPE]) === VIDEO) found.video = uint(bytes, values[TRACK_NUMBER]);
}

function scanCluster(bytes, cluster, limit, found) {
  const own = { from: cluster.at, to: cluster.end, begin: 0, key: null };
  found.clusters.push(own);
  for (let at = cluster.body; at < cluster.end;) {
    const child = elementAt(bytes, at, limit);
    if (cluster.unknown && [CLUSTER, CUES, SEEK_HEAD, INFO, TRACKS].includes(child.id)) { own.to = at; break; }
    if (child.id === TIMESTAMP) own.begin = uint(bytes, child);
    else if (child.id === SIMPLE_BLOCK) noteBlock(bytes, child.body, own, found, bytes[child.body + 3] & 0x80);
    else if (child.id === BLOCK_GROUP) {
      for (const inner of children(bytes, child)) if (inner.id === BLOCK) noteBlock(bytes, inner.body, own, found, false);
    }
    at = child.end;
  }
  return own.to;
}

function noteBlock(bytes, at, cluster, found, key) {
  // Numbers of tracks are below 127 here: one byte. The time is signed, and counts from the cluster's.
  const time = cluster.begin + ((bytes[at + 1] << 24) >> 16 | bytes[at + 2]);
  found.last = Math.max(found.last, time);
  if (key && cluster.key === null && (bytes[at] & 0x7f) === found.video) cluster.key = time;
}

/**
 * Return the parts of a WebM with a duration and an index before its clusters.
 * @param {ArrayBuffer} data what MediaRecorder gave
 * @param {number} frameMs how long the last frame is shown
 */
export function seekable(data, frameMs = 33) {
  const bytes = new Uint8Array(data), header = elementAt(bytes, 0, bytes.length);
  const segment = elementAt(bytes, header.end, bytes.length);
  if (segment.id !== SEGMENT) throw new Error("this is no WebM");
  const { info, tracks, clusters, last, scale, video } = scan(bytes, segment);
  const kept = [...children(bytes, info)].filter(({ id }) => id !== DURATION && id !== VOID).map(({ at, end }) => bytes.subarray(at, end));
  const newInfo = element(INFO, ...kept, element(DURATION, number(last + frameMs * 1e6 / scale, true)));
  const newTracks = bytes.subarray(tracks.at, tracks.end);
  const point = (cluster, place) => element(0xbb, element(0xb3, number(cluster.key)),
    element(0xb7, element(0xf7, number(video)), element(0xf1, number(place))));
  const indexed = clusters.filter(({ key }) => key !== null);
  const cuesOf = (places) => element(CUES, ...indexed.map((cluster) => point(cluster, places.get(cluster) ?? 0)));
  // Every number has eight bytes, so the index is as long with true places as with none.
  let place = newInfo.length + newTracks.length + cuesOf(new Map()).length;
  const places = new Map();
  for (const cluster of clusters) { places.set(cluster, place); place += cluster.to - cluster.from; }
  return [bytes.subarray(0, header.end), element(SEGMENT).subarray(0, 4), unknownSize, newInfo, newTracks, cuesOf(places),
    ...clusters.map(({ from, to }) => bytes.subarray(from, to))];
}

const unknownSize = new Uint8Array([1, 255, 255, 255, 255, 255, 255, 255]);
