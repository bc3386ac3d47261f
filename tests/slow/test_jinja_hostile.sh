# Templates that loop for ever, call themselves or build a gigabyte end with an error within a second of CPU time each, at the bounds that
# hold when nobody sets others. (tests/unit runs them at a tenth of these.)
"$BUILD/tests/test_jinja_bounds" --full
