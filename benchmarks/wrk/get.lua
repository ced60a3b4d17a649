-- GET /v2/keys/bench/<n>: the keys that put.lua writes, in the same order.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  requests = {}
  for i = 0, 499 do
    requests[i] = wrk.format("GET", string.format("/v2/keys/bench/%d", number * 500 + i))
  end
  turn = 0
end

function request()
  turn = (turn + 1) % 500
  return requests[turn]
end

dofile("report.lua")
