"""An HTTP endpoint: POST an image, get it stylized as PNG. Needs: pip install fastapi uvicorn

python examples/server.py                                        # listens on port 8000 of this machine
curl --data-binary @photo.jpg "http://127.0.0.1:8000/stylize?style=ink" -H "Content-Type: image/jpeg" -o ink.png
"""

from typing import Annotated

import cv2
import numpy as np
from fastapi import Body, FastAPI, HTTPException, Response

from rtstyle import RtstyleError, list_styles, stylize

app = FastAPI(title="rtstyle")


@app.get("/styles")
def styles() -> list[str]:
    """Return the names of the shipped styles."""
    return list_styles()


@app.post("/stylize")
def stylize_image(data: Annotated[bytes, Body(media_type="image/*")], style: str = "sketch") -> Response:
    """Return the posted image in a style; FastAPI calls this in threads, and ``stylize`` lets one in at a time."""
    if style not in list_styles():  # a name, not a folder of this machine
        raise HTTPException(404, f"no style {style!r}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None or max(image.shape) > 4096:
        raise HTTPException(415, "an image of at most 4096 pixels per side is expected")
    try:
        result = stylize(image[..., ::-1], style)
    except RtstyleError as error:
        raise HTTPException(422, str(error)) from error
    return Response(cv2.imencode(".png", result[..., ::-1])[1].tobytes(), media_type="image/png")


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=8000)
