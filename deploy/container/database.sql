-- The state database of syncd, and a mapping table such as an order system keeps.
CREATE DATABASE syncd;
CREATE TABLE order_bindings (
    order_id   bigint PRIMARY KEY,
    deal_id    bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO order_bindings (order_id, deal_id)
SELECT number, (number + 1) / 2 FROM generate_series(1, 190) AS number;
