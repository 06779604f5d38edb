// @bitrix24/b24jssdk, unmodified, over TLS (NODE_EXTRA_CA_CERTS): `list` or `N` adds.

import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(new URL('../../../.venv-peers/', import.meta.url))
const { B24Hook } = require('@bitrix24/b24jssdk')

const [url, job, out] = process.argv.slice(2)
const client = B24Hook.fromWebhookUrl(url)
const began = performance.now()
let remark = ''
let orders = []
try {
  let answer
  if (job === 'list') {
    answer = await client.actions.v2.callList.make({
      method: 'crm.orderentity.list',
      idKey: 'orderId',
      customKeyForResult: 'orderEntity'
    })
    orders = answer.getData().map((row) => row.orderId)
  } else {
    const calls = Array.from({ length: Number(job) }, (_, index) => ({
      method: 'crm.orderentity.add',
      params: { fields: { orderId: 1_000_000 + index, ownerId: 1, ownerTypeId: 2 } }
    }))
    answer = await client.actions.v2.batchByChunk.make({ calls, options: { isHaltOnError: false } })
  }
  remark = answer.isSuccess ? '' : 'its result says that it failed'
} catch (error) {
  remark = error.constructor.name
}
const wall = (performance.now() - began) / 1000
writeFileSync(out, JSON.stringify(orders))
const { user, system } = process.cpuUsage()
console.log(JSON.stringify({ wall, cpu: (user + system) / 1e6, remark }))
