"""The stub as bytes, for a build without a C compiler.

Made from stub.c by `python setup.py prebuilt` (which needs gcc for both machines) and checked
against it by the tests; zlib and base64. The other native parts have Python in their place, the
stub has none: without it the host's interpreter would be visible inside a container.
"""

from __future__ import annotations

import base64
import zlib


def stub(machine: str) -> bytes:
    """Return the ELF file for a machine as uname(2) names it; KeyError for one we do not know."""
    return zlib.decompress(base64.b64decode(STUBS[machine]))


STUBS = {
    "x86_64": (
        "eNqlVW1MG2Ucv+sLK4PlSpwBzZIRUyOGWXuED0wS07NXfC47YwxDicY4KBgmsi1wVRYmG3mo8cmtiYnTGI2J"
        "H/ZhiV/2wQ8Nc2sFaTf9gjXiWwx8YHLAUDRzFGZ7/v931wXIoiY+afu/3//97emdjqptLp7nysfFPc4husiF"
        "LRx2+PUVd1SA1wJ6Yc7LeSxdL7f1hLfRWUdYppzfJs9c13oquP9+HDNOXCVskdCFNeMkoJskNqmwQrL6XZQR"
        "/VTWr7f5vjGU5N4WOi/QAq/5CdukBVfcRxf3K/rhQpiwmamOqJhnf0bFTHtUvEbY7dQCmKexFjFPklpgTfDq"
        "kX0k6TEIP0WOyoE17ssPWolbDhQIc7/w4pT0nJiP4icjPQsuUh9heDYrdUiHO9rBYdqDDHrDL3gJbeVJ8t4+"
        "4Ix6iN7uF1eFK67xjFZD+ld3UyNEzEnyPuGnV4youGA7RZc+8DDhsvz+prJfBK80wVsoqzBDZYupSlRwww/E"
        "YFNkrHQa5KN7SCIz7BtrOXEyJmr3l7NEh4tY4xt2ooJ3q8RtR7H4KYIgNnLgCsa2QoL/WMR3GR+lyyiWLJlk"
        "NYz0ZzrV5Hn3GQBsGRIlbM7oLZkm5lFLYoU7YVRM+5bKNgWvOU2LFfEZfaRej9SJt2Q9Ug1jIo3tfsJ/T/gf"
        "5YNZrUb3mVlCMx7CbxB+b9XKMuHb/XrEl4uEMLycPMLLrTGPQH8FKLPrMos1k/5pyKbZTZJn6zAjSX9znMfi"
        "qgN0vmhejdfQkX2cViXbed4smqba/3Onwv8U1XXUlOiGW0jcAP9Z+hLWpw81pHdjnUkdMVuDDTGvra/TydBb"
        "NewPlqWbla8vkSQN81bfGqBeUGH0CF9uF1afAc4J4EAfrOZBMwjT+3i7uyMHAMOE7R6nranrzQGZLWOWtUW7"
        "m3VbuynmrUmprAR25rSEDf0KjTD4nJp8B6OpyU+O2EGN/F+mKaXwHqlsVkXHudQTIFt6zwnmbNeccQE0LScK"
        "yxkfAlAYuN9wxWsVeulj0PLFvQrbteKW2K6ouLoyYFl7HetXwGDCYwOFfW48j9hesDnC5IDPIMhxlTUmjRbA"
        "qg4SFRe9RNikpNMzVmcgMk5UH3fjbJ5KrA4riGFJ9LeRo7ZeuArk1D2JvJBIg0ucbvzRpU/hMZHXKpXc9Lxp"
        "miuiNfXfnamXbgNrIZHZsQyLwFbGivyaaQ6+JrMlMbP+gySkz7XNQIiX6aapPX3wa+0QMTOEFjzxBcyEHWqx"
        "rhTsJNZIP7MS5eN7RFOhxVJYOJejuVHoZszcfhGtuwZ/AJ2yfr4xg3MI4ZTtYs8CxltM5/er7NWpcFnvC9Tz"
        "FXE8EBCbvNPpd5Zf7slI5LH6Brm3+2jXsXqxKdgUDD0iNjf29HaLTXHxYYfFccGhviFtUOvq5oJa77DGBQeP"
        "93RpXVwwdnxgoPeYxv3vUwVfXKzyf335vXLRwQ9uf3lw/A77GofX5OBvvWGH3l2f30Hvc55DO/TK76OH/sUe"
        "qfsudRUd+we4f87/bwNoM1w="
    ),
    "aarch64": (
        "eNqlVV1MU1cc/9/ej5ZPwZEpIHAvIFaCjRDYZMnS0+I2svkwax/2sASKskCYGrAPuI14Me5lJZtVF2OIgxiz"
        "hb5MHzZ3k2UBszEyzRIbs2WZycqHuukTuodWxe53LgeEBrIlO8nJOf//+X9/nP+xV/a86pAkWloOukIcukTM"
        "hpnAu5zLJMDtAh0jjVSbVqWVi606v9Vo1Um0qGvv7fABjf77KhBnGZnxhEzRBqIzRPrNWZli+vXKiOFilj9c"
        "vo9cLGVUXy0xcmmjV6FekyjodS2e43LbL+1Ekafp9CapgJ0ydIq294eSjwBXEgXcshmnD9hpH3T4cco4FWwV"
        "G1bf5PzpFrpxFzrvyFKtO9+M63ibhj0OnJn0iS3McrBzcf+RLx5oe2oiCScbI8UxnOiqSUJOlMtbeP+7sTuQ"
        "92eRGV+AHNPmNeOZ8h7uk8ZsG4ilKhSaz8uFP/BV47ZKnIc1T+RQU0LWYlPORRn+NWyaKrXtjc2BjoDrwK4S"
        "b94n6vxfeJOm2KNriJchMYs8nwTa6z7v8xL16BIFp3LM+OiGtW3kMtxOnh8ttt67voNZ28gMXEynz9ZkQX6O"
        "GZis1ocnSYvOyM7aafAm5KzYR3hvp+QVyAmcw/2uQoXpzdQ7/TQd1LNYCnIDWw1mGcXMGiW6VpOHO2VFCPsY"
        "aT2SAvtBtwHy66AnL4fniiJ94BtSqVDPohTDXa8nS1eZNSJRT4tMQcQ/wH1cy35OS8IPlOJJouLoKGrHGKe9"
        "pFDUQM1MIr/neT3tZt/sh81+UiPV3R3JE9Bd3V2Z/A1v9+Xc2romsj4e+HK4fWve8E+SFq2VsiN0wmdRf/lG"
        "5Ld3AvHXy5iFum2cBj2PSQhx6AK98qHPGskFjRM02+H3gBrdLZkB74DaLLu+L+kwlVL/OBVWPqnYNSMTeOXa"
        "tmrqdacRO0mN6urzY5zPa1HKgL812AyyeW44/DLuM7KGXGTbudgmcsHfXsB9En79IXLBaRCnAKcrw5sxoUYr"
        "B9XorCzF3FU8dseXc38PtcX95X5mK8mv0YtN3MdRhZraFryXL7goaL8P+eB38kVCjxJ6tPaonuwB/t0ffNan"
        "iN9KnQSdHOY9WSlwj5+mz/KeGkHfDzooSDfQMzrNT6N+fyRKZcOeEOTpsMOYYykvZd8fQr3oT9K2PYnH6eWY"
        "K5DPcwY+64HQ7Rd64L+t+2/o6hC4W8A9BMzxxwXuV0F3AfAc3jguDpxr0Gfdtml5zTtjM3JRbFZ+LvYV9Iw7"
        "qPGebJ762eeMgvcNj5Qf4bV39Wiiv02hevyBQS85ekZx8tqrKKB5A/nl8WtAnRrNqFX4x2uJ9y16NpBNVMT9"
        "YwvP/LvOYwV9bVl0ObFppISSUiGvf/4PrtfDdi4mfFYD+DL/Z+m9ACn95VJpboWN24z9Nj7Y1hV0dbx5gHML"
        "XJGYFheBe5MjfPkFgXyiLbi+hX0L+HHFxuvnlc/k1087zvAp8lpLy0u6e3dnR3fokF7f4Gnw7NxR37hdXIk8"
        "R7qOhPvCoQ7yhDv7w+TpO3wgFA6Rp7Or7Z2+0MFO8uw/fPBg56Ew/e+VIybb0kxbmp+XBHxy9ZAkJYO/UPA3"
        "LE1PTcxfbeXUfLakjLNY3B0CbhX8rYI/00VXBlwl+Hdm4JfmdsW/6OenvEZcfhf8devwL61/AFMWQ8U="
    ),
}
