"""The CRM side: one Bitrix24 portal, spoken to in batches of `crm.orderentity.*`. The only package that knows HTTP."""
