-- PUT /v2/keys/bench/<n> with a 32-byte value; 500 keys a thread, one after the other.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  requests = {}
  local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }
  for i = 0, 499 do
    local path = string.format("/v2/keys/bench/%d", number * 500 + i)
    requests[i] = wrk.format("PUT", path, headers, string.format("value=%032d", i))
  end
  turn = 0
end

function request()
  turn = (turn + 1) % 500
  return requests[turn]
end

dofile("report.lua")
