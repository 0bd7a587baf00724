"""Servers that stand behind the proxy in tests: one that has adapters, and one that does what a test says."""

import asyncio
import json

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from support.prompts import SETTINGS

from meloedit import Editor, MeloConfig
from meloedit.serve import app


class Adapters:
    """An ASGI app that has a base model and adapters by name: a model of its own for each, behind ``meloedit.serve``.

    PEFT puts each adapter into its model, so nothing here knows of edits.
    """

    def __init__(self, make_model, tokenizer, folder, names, **limits):
        from peft import PeftModel

        self.apps = {}
        for name in ("base", *names):
            model = make_model("llama")
            if name != "base":
                model = PeftModel.from_pretrained(model, str(folder / name)).merge_and_unload()
            editor = Editor(model, tokenizer, MeloConfig(**SETTINGS), name=name)
            self.apps[name] = app(editor, console=False, **limits)
        self.asked = []

    def services(self):
        return [one.state.meloedit_service for one in self.apps.values()]

    def close(self):
        for service in self.services():
            service.editor.unload()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/v1/models":
            cards = [{"id": name, "parent": None if name == "base" else "base"} for name in self.apps]
            await JSONResponse({"object": "list", "data": cards})(scope, receive, send)
        else:
            content = b""
            while True:
                message = await receive()
                content += message.get("body", b"")
                if not message.get("more_body"):
                    break
            name = json.loads(content)["model"]
            self.asked.append(name)
            sent = False

            async def again():
                nonlocal sent
                if sent:
                    return await receive()
                sent = True
                return {"type": "http.request", "body": content}

            await self.apps.get(name, self.apps["base"])(scope, again, send)  # which refuses a name that is not its own

    async def _live(self, receive, send):
        await receive()
        for service in self.services():
            service.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for service in self.services():
            service.stop()
        await send({"type": "lifespan.shutdown.complete"})


class Scripted:
    """A server that answers as a test says: ``reply`` is a response, or makes one of the body."""

    def __init__(self, adapters=()):
        self.adapters, self.bodies, self.headers, self.reply, self.loaded = list(adapters), [], [], None, []
        self.left = 0
        self.loads = 200
        self.app = Starlette(
            routes=[
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/{rest:path}", self._answer, methods=["POST"]),
            ]
        )

    async def _models(self, request):
        cards = [{"id": "base"}, *({"id": name, "parent": "base"} for name in self.adapters)]
        return JSONResponse({"object": "list", "data": cards})

    async def _load(self, request):
        body = await request.json()
        if self.loads == 200:
            self.adapters.append(body["lora_name"])
            self.loaded.append(body)
        return JSONResponse({}, self.loads)

    async def _unload(self, request):
        self.adapters.remove((await request.json())["lora_name"])
        return JSONResponse({})

    async def _answer(self, request):
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        return self.reply if isinstance(self.reply, Response) else self.reply(self.bodies[-1])

    def endless(self, _):
        """A stream that goes on until its client leaves."""

        async def lines():
            try:
                while True:
                    yield f"data: {json.dumps(chunk('x '))}\n\n"
                    await asyncio.sleep(0.01)
            finally:
                self.left += 1

        return StreamingResponse(lines(), media_type="text/event-stream")


def chunk(text):
    return {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": text}}]}


def whole(text="fine"):
    message = {"role": "assistant", "content": text}
    return JSONResponse({"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]})
