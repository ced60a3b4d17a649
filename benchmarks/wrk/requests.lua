-- What wrk sends: `wrk -s requests.lua URL -- KIND SEED` with the kinds of load.py. One thread.
-- All requests are made before the run, so that the server and not wrk is what is measured.
local KEYS = 1000
local QUEUES = 16
local LISTS = 10
local VALUE_BYTES = 256
local LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
local FORM = { ["Content-Type"] = "application/x-www-form-urlencoded" }

local function value()
  local letters = {}
  for i = 1, VALUE_BYTES do
    local at = math.random(#LETTERS)
    letters[i] = LETTERS:sub(at, at)
  end
  return "value=" .. table.concat(letters)
end

local function put(i) return wrk.format("PUT", "/v2/keys/bench/" .. i % KEYS, FORM, value()) end
local function get(i) return wrk.format("GET", "/v2/keys/bench/" .. i % KEYS) end
local function quorum(i) return wrk.format("GET", "/v2/keys/bench/" .. i % KEYS .. "?quorum=true") end
local function mixed(i) return i % 10 == 0 and put(i / 10) or get(i) end
local function post(i) return wrk.format("POST", "/v2/keys/queues/" .. i % QUEUES, FORM, value()) end
local function list(i) return wrk.format("GET", "/v2/keys/lists/" .. i % LISTS .. "?sorted=true") end
local kinds = { put = put, get = get, quorum = quorum, mixed = mixed, post = post, list = list }

local requests, turn, count = {}, 0, 0

function init(args)
  math.randomseed(tonumber(args[2]))
  count = args[1] == "mixed" and 10 * KEYS or KEYS
  for i = 0, count - 1 do
    requests[i] = kinds[args[1]](i)
  end
end

function request()
  turn = (turn + 1) % count
  return requests[turn]
end

-- One line of JSON that load.py reads. Times are in microseconds; wrk counts every status above 399 as an error.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"bad_status":%d,"socket_errors":%d}\n',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
