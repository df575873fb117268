# Everything of `make setup`, and the checkout: docker build -t emamba . && docker run -it emamba
FROM python:3.12-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends git make g++ perl && rm -rf /var/lib/apt/lists/*
WORKDIR /emamba
COPY pyproject.toml constraints.txt hashes.txt README.md LICENSE NOTICE Makefile ./
COPY tools tools
COPY emamba emamba
COPY rtl rtl
COPY sim sim
COPY boards boards
COPY asic asic
COPY flow flow
RUN make setup
COPY . .
ENV PATH="/emamba/.venv/bin:$PATH"
CMD ["bash"]
