// SPDX-License-Identifier: Apache-2.0

// A peer of grpc-go for grpc_go.py: "server PORT" echoes every message of every call, "client TARGET" runs eight conversations of 2,000
// messages of 20 kB at once on one channel and says how many failed. grpc-go measures the bandwidth with a PING for nearly every read.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

type raw []byte
type codec struct{}

func (codec) Marshal(v any) ([]byte, error)   { return *(v.(*raw)), nil }
func (codec) Unmarshal(d []byte, v any) error { *(v.(*raw)) = append([]byte(nil), d...); return nil }
func (codec) Name() string                    { return "raw" }

func handler(_ any, s grpc.ServerStream) error {
	var m raw
	for {
		err := s.RecvMsg(&m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(&m); err != nil {
			return err
		}
	}
}

func main() {
	if os.Args[1] == "server" {
		l, err := net.Listen("tcp", ":"+os.Args[2])
		if err != nil {
			panic(err)
		}
		s := grpc.NewServer(grpc.ForceServerCodec(codec{}), grpc.UnknownServiceHandler(handler), grpc.MaxRecvMsgSize(1<<26))
		fmt.Println("serving")
		s.Serve(l)
		return
	}
	c, err := grpc.NewClient("passthrough:///"+os.Args[2], grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(codec{}), grpc.MaxCallRecvMsgSize(1<<26)))
	if err != nil {
		panic(err)
	}
	began := time.Now()
	done := make(chan error, 8)
	for k := 0; k < 8; k++ {
		go func(k int) {
			s, err := c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/t.T/Echo")
			if err != nil {
				done <- err
				return
			}
			go func() {
				for i := 0; i < 2000; i++ {
					m := raw(make([]byte, 20000))
					if s.SendMsg(&m) != nil {
						return
					}
				}
				s.CloseSend()
			}()
			n := 0
			for {
				var m raw
				err := s.RecvMsg(&m)
				if err == io.EOF {
					break
				}
				if err != nil {
					done <- fmt.Errorf("after %d: %w", n, err)
					return
				}
				n++
			}
			if n != 2000 {
				err = fmt.Errorf("only %d", n)
			}
			done <- err
		}(k)
	}
	bad := 0
	for k := 0; k < 8; k++ {
		if err := <-done; err != nil {
			bad++
			fmt.Println("error", err)
		}
	}
	fmt.Println("result", bad, time.Since(began))
}
