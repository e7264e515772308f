#!/bin/sh
# Sorts the night's support tickets: a copy of the CSV file with one more column, `topic`.
#
#     python examples/nightly_enrichment/make_tickets.py 2000 > tickets.csv
#     examples/nightly_enrichment/enrich.sh tickets.csv               # writes tickets.output.csv
#
# Stop it, kill it, or lose the machine: the same command goes on where that was, and pays for no row twice. So a crontab
# may call it a second time, which has nothing to do where the first one came to its end:
#
#     0 1,4 * * *  cd /srv/support && PATH=.venv/bin:$PATH ./enrich.sh tickets-$(date +\%F).csv
#
# It exits with 0 where every row has its answer; `forebay batch --help` tells the other codes.
set -eu
exec forebay batch submit "$1" --tenant acme --category classification --endpoint nightly-tickets \
    --system "What is the ticket about: delivery, damage, refund or account? Answer with that word alone." \
    --template "{text}" --id ticket --max-tokens 8 --out-column topic \
    --completion-window 12 --price-ceiling 5 --wait
