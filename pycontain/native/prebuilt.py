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
        "eNqtVVtoHFUYntlLurmU3WClEQodZKGRxGQnREgblJ3ubDxDp4im0YCI2Ww2zZIru7M2JTVtOFnxMF0otIoI"
        "gg99EPrSBx+W1HbXxCStPhhXqHeSh7SZJI1G0WaTuhn/MzvbxKWIgofdOfP95/+//3bOnLN+ucXCskxhWJjn"
        "GIquMl4De035XMlDFZA1gZ6XsTM2Q9fO7B7ev83jpl1hZlz56cU7SlcJ8++Hacbwa4gsIby4rp0G9DsKTkok"
        "m6h4h64h9cyMS21xfK1JiX1NeMGJs6ziQmQLZy0xB146KKknsl5E5qba/HyG/OHn061+/hYiD5KLYJ6iufAZ"
        "lFDc60676juAEjYNsVMoLLrXmc/fb0ZW0Z1FxPrqa1PCK3zGT39p4WWgSH5A3ZPbQptwoq0VCFM2KsD3XE47"
        "ws0sSjx+ESSjNqS2uvg15w3LeFqpRL1rZVjzIH0SvYfY6VXNzy/mSSmlAxgmLAbvLzK567QLE6yBZiSiyWQp"
        "WUoVrPAAH2QKjW2fhfXRvSieHnaMNQ2dDvJKww6dYZt4phbCSFHWiaBhyWeSSzT30XwCVLBjY817N+RJREFw"
        "pPaGYc3m/QZ9juv0VbhOlwVjTTAKiXrT7XLisvUcALICCSAyrx3f1nUa334UzD50I9N07stky2nXp3GuJDan"
        "jnCqr4q/L6q+Cmgfqml1IfZbxH4vHp5RKlWHPoNw2obYTcTuK19dQWyrS/U5Zn0e6l5MdLBic9DmxD8DFMkd"
        "kQQbUe80RNNoRYnzVTQiQX1rnKXJVbjxQk6/GavEIwcYpVzMx/ljTtfl3p/aJfYHv6pSTQFvWp3xe8A/g1+n"
        "+anR6lSZUVOVYrIOO0e/tbGBJz1vV5LfyAzeKj21jBLYyxp1q4Z8QYXgDrZQLpp9GiRDIIE6GMWDYiCi9rD5"
        "6o7UAobO52ts9A2pjW6RrNAo9T/z1azaXU1oKDJ4tsFOnxZoQb+gRtT5vJy4SL3JiSsdeafaBJAISXq+ZHJb"
        "psSzyaOwtvyu6czcdfPaBdA0SCQyq2EAEgH6TUtsv4SvfQhajphdIntWrQLZ4+fXVvsNa7tp/RIYTNjyQCKf"
        "akcpzm+weUREt0PzUImloDGpcYBlFVZkegC2EZkUVHzOqAx4ph1Vx620N8fja8MSxbBJ1AtUIjd/dBOmM4/F"
        "M854Cihpd2P1yx/DazyjlEqz0wu6rq/yRtd/Nbt+9wGIFuPpos3wJYilsRy7ruuRN0SyzKc3vhOcqUstc+Ci"
        "G2/pyguHv1KOIT2NcNYWW6SRkGNNqTfBGexJmiP+xAiUje3ldQnntr3OS7N4dhSqGdR3jttS4QzCh6FdVC/X"
        "pGkfPLAXzWTPA6anGy8clEnflLeg9xnVc+Roe8AhLXIx6TcGL/PfB3xGBgeUQHjgCKf0hDgThCKHovDe3x8Y"
        "6OLCUa5+KDIYrI+G+rrrQ8MhbjBiKPeFe0O13KmecLCHKg0McqB2MhLo5wa7DYVwf+BkqIx53uc7wlWLoc5w"
        "YIDjG+oa6jxP8401XaFOviHGP2WKGKYu2hNVIkqgk6lTQsMKUxcZ7AooAaaORhIaUJj/YZTDn274wt1UuAev"
        "mvjZoiKyRfaVpsxSEJSY92HhHizS54rwE6a9p0heuD8PMY/2v3u2PiKvK6b9k8w/x/8XcAJZAA=="
    ),
    "aarch64": (
        "eNqlVl1MU2cYfk/P6Q+l8uPIFP/4DiJWUqsQiD83PS3uJ5sXs/TCZBfQQrUNAlKaDLcZD8Zd1WxWXcxGJsSL"
        "bfRmerG5c7NUszEy3RIbY7bsYgVRN71Ct6R1Qvd8hwNig9mSNfnyfe/7Pu//+52vx17a+7JJEGjhZ6LLxKmL"
        "pOi0YvBV6yIEvJ3AKWQhs44109Kf8szebOg1L+rP+9p3J95lof/+qzD29aRmsiIlm4jOErGbt0VKseu1Cdmm"
        "aL74hjayKXm57uoa2UErPRL1q0QBj21+T4vttzqIEnOFwiqhQjktM0p2DAZzj0HXEvmdopqhd5UzXvjwYRex"
        "S1hmLER9k+sXWunGPfi8KwoNzjI1wyCbRDwm7MX47DpFMykfZXwDnz207K1PZK3KGEmm4WykPgc7SW5v9p1v"
        "xu7C3u9VamYWdlRdV80U23vUJozpMZCSr5Fo5kcH8kGuFh6rwHWUXUMOasmKltSEdd6Gb5mYJtbq8aamgUNX"
        "MyGsjYbM88Q88wdkwoTy+BrqJQuKRu4P/B2uT2Meou6sQAHgTtlsakaBjtxVnQw5lvFRqmbS5U/z4DynlffN"
        "klouNy5nWxVtM6n+84XCufoS+C1V/eN1bHicLMkp0dowCd2sWJI6AXkH5S7Djv8Mzvckqiyspv7JuUKAlSh5"
        "2PVvkhVNrla0UaJr9StwppIEYR0jS7cgIS/gymHfBT8rSnkPKRGD3kkzVbISyiM3P2skjZkVbUSg7laRAuiL"
        "n+e1XPwcS0YeGNFT1FGd/BgzJadpH0mUlDFL4+j7OT5ne5SvOxGzj8yJumgodwK+66K1uV8geyA6GlwtpL1/"
        "9Ivhjk0rhn8QLMkGwZ6gE16NBjesRN/7r6AvbL2iYZ6bJ4HnNXkTdYgAL73n1UYcwFiB2YK8j5qTewTV7zlq"
        "3iXavl0TUqW1vjRV1j6p2TklEnTFhvY66ncWUDvBnGTmF8e4nkejvIx867F2wzbvDad34DwlWtALu94L2egF"
        "l23HeRx5/Wb0gmNQJz/HrYJMvmJO1g6Zk7dFIeXcyGt3fLH39zFzPF+ep13KfYU72sJzHJWopX3Wc+mCjQK6"
        "/KQXeed2EO4u4e42HGG5bvAPfefVPkT9lvp8PFc4x2l+V2sN3l/g8bs2gu/BkIkCdAN3idHMJOb6e6K8HfEE"
        "YY8hDnlayXvI/uAk5oU9KejxZP8uLNZ8DrZ4z6CnPTR8+ww/vxq+/4SvkMG7Bd4j0Jx/3ODdMHAXQE9DxnnX"
        "wbMNebU7OpbPvDU1JValbosvpL6En7SJmu+L6umfvNYkdF93C2UJPntXj2QH2yVqxLcx4CFT9yh2Pns1FTSD"
        "Pun1a8Kcyrswq8iPzxJD3qPlqt9OVMXzU2af5jfOawV/7SV0KbtqZA3lhEo+//z7+Lw7rPfiildrgh4dPtLZ"
        "1xsPRnt3s3gkzAwiHNs8gHNPT7C3i0UH2LbDsb7ObQPhQwe2hQfDrC+mgw9Fu8Mu9lYk2hnhoN4+BtjBWLCH"
        "9R3QAdGe4MGwfem7ILztJ2lwg7DWUaPzVmNN5wuFV5e8Hy7Ox8feafCqjFfKBd4bnOEtq/CXEa3DcT9WF/g/"
        "SzqffSKdF187YzrLX69XWlt3M+eecCga7GWNTe4m9/atjc1bjCOReyAyEI/FgyFyx8ODcXLH+rqC8SC5w5H2"
        "A8giTG5egnBvnP73r9R4URfe0oV3+6JBf/7s40xSkX6loW8y6P0Wxdjn6XARXiiiq4v004Z+2tAvTtFWRG80"
        "9LcX8Rf+L9Q8x//SXVymLm2Gvutf4v8HUmtwqA=="
    ),
}
