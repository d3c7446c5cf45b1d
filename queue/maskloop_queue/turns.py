"""Whose job is next: prediction versions take turns in the queue, and what a person waits for stays before them all."""

from collections import Counter
from collections.abc import Collection

import redis

from maskloop_queue.jobs import MaskloopJob
from maskloop_queue.queues import gpu_queue

RUN = 2
"""Jobs of one version in a row while others wait: a rank and a mask, or two masks. Longer runs spare a worker that
cannot keep all models warm some loading, and let the others wait longer."""
BACKGROUND = ("rank", "score", "embed")
"""Kinds of jobs that take turns; whatever else is in the queue stays first."""

# One step for Redis: a worker sees the old order or the new one, and no job is ever missing.
_TAKE_TURNS = """
local ids = redis.call('LRANGE', KEYS[1], 0, -1)
local prefix, run, served = ARGV[1], tonumber(ARGV[2]), {}
for i = 3, #ARGV do served[ARGV[i]] = true end
local asked, stale, order, lines, first, running = {}, {}, {}, {}, 0, true
for _, id in ipairs(ids) do
  local kind, version = id:match('^(%a+)%-(.+)%-[^-]+$')
  local background = kind == 'rank' or kind == 'score' or kind == 'embed'
  if not background or redis.call('HGET', prefix .. id, 'enqueue_at_front_on_retry') == '1' then
    asked[#asked + 1] = id
  elseif not served[version] then
    stale[#stale + 1] = id
  else
    if not lines[version] then
      lines[version] = {}
      order[#order + 1] = version
    end
    running = running and version == order[1]
    if running then first = first + 1 end
    table.insert(lines[version], id)
  end
end
local turns = asked
local at, length, left = {}, math.min(first, run), true
while left do
  left = false
  for _, version in ipairs(order) do
    local line, done = lines[version], at[version] or 0
    for k = done + 1, math.min(done + length, #line) do turns[#turns + 1] = line[k] end
    at[version] = done + length
    left = left or at[version] < #line
    length = run
  end
end
for _, id in ipairs(stale) do turns[#turns + 1] = id end
for i, id in ipairs(ids) do
  if turns[i] ~= id then
    redis.call('DEL', KEYS[1])
    for start = 1, #turns, 1000 do
      redis.call('RPUSH', KEYS[1], unpack(turns, start, math.min(start + 999, #turns)))
    end
    return 1
  end
end
return 0
"""


def take_turns(conn: redis.Redis, versions: Collection[str], *, run: int = RUN) -> bool:
    """Let the waiting jobs of these versions, or lines of embeddings, take turns, `run` at a time; whether that changed
    the order.

    The order within a version stays. Jobs that a person waits for stay first, jobs of versions that are served no
    more go last. Called again it changes nothing, and a run that has begun is not made longer.
    """
    if run < 1:
        raise ValueError(f"run must be at least 1, got {run!r}")
    prefix = MaskloopJob.key_for("")
    return bool(conn.eval(_TAKE_TURNS, 1, gpu_queue(conn).key, prefix, run, *sorted(set(versions))))


def waiting_jobs(conn: redis.Redis) -> Counter[str]:
    """Version, or line of embeddings, -> how many jobs of it are queued."""
    found: Counter[str] = Counter()
    for job_id in gpu_queue(conn).job_ids:
        kind, _, rest = job_id.partition("-")
        if kind in BACKGROUND:
            found[rest.rpartition("-")[0]] += 1
    return found
