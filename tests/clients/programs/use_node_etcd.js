// What an application does with node-etcd 7.0.0. Arguments: the members' `host:port`.
//
// What it leans on: PUT and POST with the value in a form and all else in the query; another server after a 5xx or a
// refused connection, in any order; a 401 whose `index` says where a watch goes on; X-Etcd-Index in lower case.
'use strict'

const assert = require('node:assert')
const readline = require('node:readline')
const { promisify } = require('node:util')
const Etcd = require('node-etcd')

const PATIENCE_MS = 30000

function calls (etcd) {
  const call = (name) => (...given) =>
    new Promise((resolve, reject) =>
      etcd[name](...given, (error, body, headers) => error ? reject(error) : resolve({ ...body, headers })))
  const names = ['set', 'get', 'create', 'del', 'mkdir', 'rmdir', 'compareAndSwap', 'compareAndDelete', 'watch',
    'watchIndex', 'selfStats', 'leaderStats', 'version', 'raw']
  return Object.fromEntries(names.map((name) => [name, call(name)]))
}

const pause = promisify(setTimeout)

async function insist (action) {
  const end = Date.now() + PATIENCE_MS
  for (;;) {
    try { return await action() } catch (error) { if (Date.now() > end) throw error }
    await pause(100)
  }
}

const fails = (code, action) => assert.rejects(action, (error) => error.errorCode === code)

async function useKeys (etcd) {
  const made = await etcd.set('/keys/one', '1')
  assert.strictEqual(made.action, 'set')
  assert.strictEqual(Number(made.headers['x-etcd-index']), made.node.modifiedIndex)
  assert.strictEqual((await etcd.get('/keys/one')).node.value, '1')
  assert.strictEqual((await etcd.compareAndSwap('/keys/one', 'näher & <weiter>', '1')).action, 'compareAndSwap')
  assert.strictEqual((await etcd.get('keys/one')).node.value, 'näher & <weiter>')
  await fails(101, () => etcd.compareAndSwap('/keys/one', '3', '1'))
  await fails(105, () => etcd.set('/keys/one', '3', { prevExist: false }))
  await fails(100, () => etcd.get('/keys/none'))
  await fails(202, () => etcd.set('/keys/one', '3', { ttl: 'soon' }))
  await etcd.set('/keys/short', '1', { ttl: 100 })
  assert.ok((await etcd.get('/keys/short')).node.ttl <= 100)
  assert.strictEqual((await etcd.compareAndDelete('/keys/one', 'näher & <weiter>')).action, 'compareAndDelete')
}

async function useDirectories (etcd) {
  await etcd.mkdir('/tree/branch')
  await fails(102, () => etcd.set('/tree/branch', 'leaf'))
  const first = await etcd.create('/tree/branch', 'first')
  const second = await etcd.create('/tree/branch', 'second')
  assert.ok(first.node.key < second.node.key)
  const found = await etcd.get('/tree', { recursive: true, sorted: true })
  assert.deepStrictEqual(found.node.nodes[0].nodes.map((node) => node.value), ['first', 'second'])
  await fails(108, () => etcd.rmdir('/tree/branch'))
  await etcd.rmdir('/tree', { recursive: true })
  await fails(100, () => etcd.get('/tree'))
}

async function useWatches (client, etcd) {
  const start = (await etcd.set('/seen', '0')).node.modifiedIndex
  for (let number = 1; number < 4; number++) await etcd.set('/seen', String(number))
  assert.strictEqual((await etcd.watchIndex('/seen', start + 2)).node.value, '2')
  const seen = []
  const watcher = client.watcher('/seen', start)
  const done = new Promise((resolve, reject) => {
    watcher.on('change', (event) => { seen.push(event.node.value); if (event.node.value === '4') resolve() })
    watcher.on('error', reject)
  })
  await insist(async () => assert.strictEqual(seen.length, 4))
  await etcd.set('/seen', '4')
  await done
  watcher.stop()
  assert.deepStrictEqual(seen, ['0', '1', '2', '3', '4'])
}

function useItWithoutCallbacks (client) {
  assert.strictEqual(client.setSync('/sync', '1').body.node.value, '1')
  assert.strictEqual(client.getSync('/sync').body.node.value, '1')
  assert.strictEqual(client.delSync('/sync').body.action, 'delete')
}

async function loseTheLeader () {
  process.stdout.write('lose the leader\n')
  const lines = readline.createInterface({ input: process.stdin })
  const [line] = await require('node:events').once(lines, 'line')
  lines.close()
  assert.strictEqual(line, 'lost')
}

async function main () {
  const hosts = process.argv.slice(2)
  const client = new Etcd(hosts)
  const etcd = calls(client)
  assert.strictEqual((await etcd.version()).etcdserver, '3.4.23')
  assert.ok((await etcd.selfStats()).leaderInfo.leader)
  const members = await etcd.raw('GET', 'v2/members', null, {})
  assert.strictEqual(members.members.length, hosts.length)
  await useKeys(etcd)
  await useDirectories(etcd)
  await useWatches(client, etcd)
  useItWithoutCallbacks(client)
  await etcd.set('/before', 'the kill')
  const watcher = client.watcher('/after') // lives through the kill, wherever it is connected
  const heard = new Promise((resolve) => watcher.once('change', resolve))

  await loseTheLeader()

  assert.strictEqual((await insist(() => etcd.get('/before', { quorum: true }))).node.value, 'the kill')
  let told = false
  heard.then(() => { told = true })
  await insist(async () => {
    await etcd.set('/after', 'the kill')
    assert.ok(told)
  })
  watcher.stop()
  assert.strictEqual((await insist(() => etcd.get('/after'))).node.value, 'the kill')
}

process.exitCode = 1 // also when nothing is left to wait for before the end
main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1) })
