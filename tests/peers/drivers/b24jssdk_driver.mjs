// Drives @bitrix24/b24jssdk, unmodified, over TLS (NODE_EXTRA_CA_CERTS names the certificate); prints what it saw as JSON.

import { createRequire } from 'node:module'

const require = createRequire(new URL('../../../.venv-peers/', import.meta.url))
const { B24Hook } = require('@bitrix24/b24jssdk')

const client = B24Hook.fromWebhookUrl(process.argv[2])
const rows = { method: 'crm.orderentity.list', idKey: 'orderId', customKeyForResult: 'orderEntity' }
const fields = (orderId) => ({ fields: { orderId, ownerId: 7000 + orderId, ownerTypeId: 2 } })
const written = async (method, count) => {
  const calls = Array.from({ length: count }, (_, index) => ({ method, params: fields(index + 1) }))
  const answer = await client.actions.v2.batchByChunk.make({ calls, options: { isHaltOnError: false } })
  return answer.getData().length
}

const listed = await client.actions.v2.callList.make(rows)
const filtered = await client.actions.v2.callList.make({ ...rows, params: { filter: { '<=orderId': 3 } } })
const added = await written('crm.orderentity.add', 120)
const removed = await written('crm.orderentity.deleteByFilter', 60)
let refused = ''
try {
  await client.actions.v2.call.make({ method: 'crm.orderentity.add', params: fields(10 ** 9) })
} catch (error) {
  refused = error.message
}
console.log(JSON.stringify({ listed: listed.getData(), filtered: filtered.getData(), added, removed, refused }))
