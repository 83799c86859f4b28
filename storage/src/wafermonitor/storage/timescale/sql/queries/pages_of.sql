SELECT pg_relation_size(format('wafer_data.%I', $1::text)::regclass) / current_setting('block_size')::bigint
