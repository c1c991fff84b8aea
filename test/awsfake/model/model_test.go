package model

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, name string) *Service {
	t.Helper()
	s, err := Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request is one as a client sends it, with headers as "Name: value".
func request(method, target, body string, headers ...string) (*http.Request, []byte) {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	return r, []byte(body)
}

func ssm(operation, body string) (*http.Request, []byte) {
	return request("POST", "/", body, "Content-Type: application/x-amz-json-1.1", "X-Amz-Target: AmazonSSM."+operation)
}

func route53(body string) (*http.Request, []byte) {
	return request("POST", "/2013-04-01/hostedzone/Z1/rrset", body)
}

func form(body string) (*http.Request, []byte) {
	return request("POST", "/", body, "Content-Type: application/x-www-form-urlencoded")
}

const (
	wellSSM     = `{"DocumentName":"Doc-stop","InstanceIds":["i-0123456789abcdef0"],"TimeoutSeconds":30,"Parameters":{"Epoch":["7"]}}`
	wellRoute53 = `<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change><Action>UPSERT</Action>` +
		`<ResourceRecordSet><Name>db.example.</Name><Type>A</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>10.0.0.1</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>` +
		`</Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`
	wellSNS = "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu%3A1%3Aa&Message=m" +
		"&MessageAttributes.entry.1.Name=k&MessageAttributes.entry.1.Value.DataType=String&MessageAttributes.entry.1.Value.StringValue=v"
	wellSES = `{"FromEmailAddress":"a@b.example","Destination":{"ToAddresses":["c@d.example"]},"Content":{"Simple":{"Subject":{"Data":"s"},"Body":{"Text":{"Data":"t"}}}}}`
)

// TestWhatIsWrongIsFound: for each protocol a request that is well, and what can be wrong
// with it, one by one.
func TestWhatIsWrongIsFound(t *testing.T) {
	type changed struct {
		what     string
		old, new string
		want     string // "" for nothing
	}
	for _, c := range []struct {
		service string
		request func(string) (*http.Request, []byte)
		well    string
		changes []changed
	}{
		{"ssm", func(b string) (*http.Request, []byte) { return ssm("SendCommand", b) }, wellSSM, []changed{
			{"well", "", "", ""},
			{"unknown member", `"TimeoutSeconds"`, `"Timeout"`, "input.Timeout: SendCommandRequest has no such member"},
			{"wrong type", `30`, `"30"`, "input.TimeoutSeconds: TimeoutSeconds is a integer"},
			{"no integer", `30`, `30.5`, "input.TimeoutSeconds"},
			{"below the least", `30`, `29`, "at least 30"},
			{"above the most", `30`, `2592001`, "at most"},
			{"required", `"DocumentName":"Doc-stop",`, ``, "input.DocumentName: SendCommandRequest requires it"},
			{"pattern", `i-0123456789abcdef0`, `machine-1`, "pattern of InstanceId"},
			{"null in a list", `["7"]`, `[null]`, "null in a list"},
			{"a list that is none", `["7"]`, `"7"`, `input.Parameters["Epoch"]`},
			{"enum", `"TimeoutSeconds":30`, `"DocumentHashType":"Md5"`, "none of DocumentHashType"},
			{"too long", `"TimeoutSeconds":30`, `"Comment":"` + strings.Repeat("x", 101) + `"`, "at most 100"},
			{"more behind it", `}}`, "}}{}", "more behind"},
			{"torn", `}}`, "}", "cannot be read"},
		}},
		{"route53", route53, wellRoute53, []changed{
			{"well", "", "", ""},
			{"unknown element", "<TTL>60</TTL>", "<Ttl>60</Ttl>", "ResourceRecordSet has no such element"},
			{"wrong type", ">60<", ">minute<", "TTL is a long"},
			{"enum", "UPSERT", "REPLACE", "none of ChangeAction"},
			{"namespace", "route53.amazonaws.com/doc/2013-04-01/", "route53.example/", "it is a <ChangeResourceRecordSetsRequest> of"},
			{"root", "ChangeResourceRecordSetsRequest", "ChangeRequest", "it is a <ChangeRequest>"},
			{"item", "ResourceRecord>", "member>", "in a list of <ResourceRecord>"},
			{"required", "<Type>A</Type>", "", ".Type: ResourceRecordSet requires it"},
			{"twice", "<Type>A</Type>", "<Type>A</Type><Type>A</Type>", "twice"},
			{"path in the body", "<ChangeBatch>", "<Id>Z1</Id><ChangeBatch>", "no such element"},
			{"text", "<Changes>", "<Changes>x", ""}, // of a list it is not looked at
			{"empty list", "<ResourceRecord><Value>10.0.0.1</Value></ResourceRecord>", "", "at least 1"},
		}},
		{"sns", form, wellSNS, []changed{
			{"well", "", "", ""},
			{"unknown", "&Message=", "&Text=", "input.Text: PublishInput has no such element"},
			{"required", "&Message=m", "", "input.Message: PublishInput requires it"},
			{"version", "2010-03-31", "2011-03-31", "version"},
			{"numbers", "entry.1.", "entry.2.", `"2" is not among the numbers 1 to 1`},
			{"entry", "entry.1.Name=k", "entry.1.key=k", "an entry is a key and a value"},
			{"operation", "Action=Publish", "Action=Say", "no operation"},
		}},
		{"sesv2", func(b string) (*http.Request, []byte) { return request("POST", "/v2/email/outbound-emails", b) }, wellSES, []changed{
			{"well", "", "", ""},
			{"unknown", "ToAddresses", "To", "input.Destination.To"},
			{"required", `,"Body":{"Text":{"Data":"t"}}`, "", ".Body: Message requires it"},
		}},
		{"secretsmanager", func(b string) (*http.Request, []byte) {
			return request("POST", "/", b, "Content-Type: application/x-amz-json-1.1", "X-Amz-Target: secretsmanager.GetSecretValue")
		}, `{"SecretId":"s"}`, []changed{{"well", "", "", ""}, {"empty", `"s"`, `""`, "at least 1"}}},
		{"sqs", func(b string) (*http.Request, []byte) {
			return request("POST", "/", b, "Content-Type: application/x-amz-json-1.0", "X-Amz-Target: AmazonSQS.ReceiveMessage")
		}, `{"QueueUrl":"q","MaxNumberOfMessages":10,"MessageSystemAttributeNames":["SentTimestamp"]}`, []changed{
			{"well", "", "", ""}, {"unknown", `MaxNumberOfMessages`, `Max`, "input.Max"},
		}},
	} {
		s := load(t, c.service)
		for _, ch := range c.changes {
			body := strings.ReplaceAll(c.well, ch.old, ch.new)
			if ch.old != "" && body == c.well {
				t.Fatalf("%s, %s: %q is not in the request", c.service, ch.what, ch.old)
			}
			_, wrong := s.Read(c.request(body))
			if ch.old == "" {
				_, wrong = s.Read(c.request(c.well))
			}
			if said := say(wrong); ch.want == "" && said != "" || !strings.Contains(said, ch.want) {
				t.Errorf("%s, %s: got %q, want %q", c.service, ch.what, said, ch.want)
			}
		}
	}
}

func say(wrong []Violation) string {
	var b strings.Builder
	for _, v := range wrong {
		b.WriteString(v.String() + "\n")
	}
	return b.String()
}

// TestTheWayToAService: method, path and headers are those of the protocol.
func TestTheWayToAService(t *testing.T) {
	cases := map[string]struct {
		service string
		r       *http.Request
		body    []byte
		want    string
	}{}
	add := func(what, service, want string, r *http.Request, body []byte) {
		cases[what] = struct {
			service string
			r       *http.Request
			body    []byte
			want    string
		}{service, r, body, want}
	}
	r, b := ssm("SendCommand", wellSSM)
	r.Header.Set("Content-Type", "application/json")
	add("JSON 1.1 is said", "ssm", "Content-Type", r, b)
	r, b = ssm("SendCommand", wellSSM)
	r.Method = http.MethodPut
	add("JSON is posted", "ssm", "has POST /", r, b)
	r, b = ssm("SendLetter", wellSSM)
	add("JSON names an operation", "ssm", "no operation", r, b)
	r, b = request("GET", "/2013-04-01/hostedzone/Z1/rrset?name=a&page=2", "")
	add("no other parameters", "route53", `no parameter "page"`, r, b)
	r, b = request("GET", "/2013-04-01/hostedzone/Z1/rrset", "<x/>")
	add("no body", "route53", "has no body", r, b)
	r, b = request("GET", "/2013-04-01/hostedzone/"+strings.Repeat("Z", 33)+"/rrset", "")
	add("what is in the path is checked", "route53", "at most 32", r, b)
	for what, c := range cases {
		_, wrong := load(t, c.service).Read(c.r, c.body)
		if said := say(wrong); !strings.Contains(said, c.want) {
			t.Errorf("%s: got %q, want %q", what, said, c.want)
		}
	}
	s := load(t, "route53")
	req, wrong := s.Read(request("GET", "/2013-04-01/hostedzone/Z1/rrset?name=db.example.&type=A&maxitems=1", ""))
	want := Request{"ListResourceRecordSets", Struct{"HostedZoneId": "Z1", "StartRecordName": "db.example.", "StartRecordType": "A", "MaxItems": "1"}, false}
	if diff := cmp.Diff(want, req); diff != "" || len(wrong) > 0 {
		t.Errorf("%v (-want +got):\n%s", wrong, diff)
	}
}

// metric is a PutMetricData as CBOR has it, with a member replaced.
func metric(name string, value cbor.Value) cbor.Map {
	datum := cbor.Map{
		"MetricName": cbor.String("Heartbeat"), "Value": cbor.Float64(1),
		"Timestamp": &cbor.Tag{ID: 1, Value: cbor.Float64(1.8e9)}, "Unit": cbor.String("Count"),
	}
	if name != "" {
		datum[name] = value
	}
	return cbor.Map{"Namespace": cbor.String("OriginChain"), "MetricData": cbor.List{datum}}
}

func TestCBOR(t *testing.T) {
	s := load(t, "cloudwatch")
	for what, c := range map[string]struct {
		name  string
		value cbor.Value
		want  string
	}{
		"well":            {"", nil, ""},
		"unknown":         {"Metric", cbor.String("x"), "input.MetricData[0].Metric"},
		"wrong type":      {"Value", cbor.String("1"), "MetricData[0].Value: DatapointValue is a double"},
		"no timestamp":    {"Timestamp", cbor.Float64(1.8e9), "MetricData[0].Timestamp"},
		"enum":            {"Unit", cbor.String("Pieces"), "none of StandardUnit"},
		"integer":         {"StorageResolution", cbor.Uint(0), "at least 1"},
		"negative":        {"StorageResolution", cbor.NegInt(7), "-7"},
		"no integer":      {"StorageResolution", cbor.Float64(1), "MetricData[0].StorageResolution"},
		"no finite range": {"StorageResolution", cbor.Uint(1 << 63), "too large"},
	} {
		for _, zipped := range []bool{false, true} {
			body := cbor.Encode(metric(c.name, c.value))
			headers := []string{"Content-Type: application/cbor", "Accept: application/cbor", "Smithy-Protocol: rpc-v2-cbor"}
			if zipped {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				if _, err := z.Write(body); err != nil || z.Close() != nil {
					t.Fatal(err)
				}
				body, headers = b.Bytes(), append(headers, "Content-Encoding: gzip")
			}
			req, wrong := s.Read(request("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", string(body), headers...))
			if said := say(wrong); c.want == "" && said != "" || !strings.Contains(said, c.want) || req.Operation != "PutMetricData" || req.Compressed != zipped {
				t.Errorf("%s, gzip %t: got %q, want %q", what, zipped, said, c.want)
			}
		}
	}
	_, wrong := s.Read(request("POST", "/service/GraniteServiceVersion20100801/operation/PutMetricData", string(cbor.Encode(metric("", nil)))))
	if said := say(wrong); !strings.Contains(said, "headers") || !strings.Contains(said, "Content-Type") {
		t.Errorf("without headers: %q", said)
	}
}

// TestAnswersAreHeldToo: what the model does not allow is found before it is written.
func TestAnswersAreHeldToo(t *testing.T) {
	change := func() Struct {
		return Struct{"ChangeInfo": Struct{"Id": "/change/C1", "Status": "PENDING", "SubmittedAt": time.Unix(0, 0).UTC()}}
	}
	r53 := load(t, "route53")
	a, wrong := r53.Answer("GetChange", "r", change())
	if want := `<GetChangeResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status>` +
		`<SubmittedAt>1970-01-01T00:00:00.000Z</SubmittedAt></ChangeInfo></GetChangeResponse>`; !strings.HasSuffix(string(a.Body), want) || len(wrong) > 0 {
		t.Errorf("%v, %s", wrong, a.Body)
	}
	for what, spoil := range map[string]func(Struct){
		"output.ChangeInfo: GetChangeResponse requires it": func(s Struct) { delete(s, "ChangeInfo") },
		"output.More: ":              func(s Struct) { s["More"] = "x" },
		"none of ChangeStatus":       func(s Struct) { s["ChangeInfo"].(Struct)["Status"] = "DONE" },
		"TimeStamp is a timestamp":   func(s Struct) { s["ChangeInfo"].(Struct)["SubmittedAt"] = "now" },
		"int is no type of a model":  func(s Struct) { s["ChangeInfo"].(Struct)["Comment"] = 1 },
		"ResourceId has at most 32":  func(s Struct) { s["ChangeInfo"].(Struct)["Id"] = strings.Repeat("C", 33) },
		"ChangeInfo is a structure,": func(s Struct) { s["ChangeInfo"] = []any{} },
	} {
		out := change()
		spoil(out)
		if _, wrong := r53.Answer("GetChange", "r", out); !strings.Contains(say(wrong), what) {
			t.Errorf("got %q, want %q", say(wrong), what)
		}
	}
	if a, wrong := r53.Refusal("ChangeResourceRecordSets", "r", "PriorRequestNotComplete", "m"); a.Status != 400 || len(wrong) > 0 {
		t.Errorf("%v %v", a, wrong)
	}
	if _, wrong := r53.Refusal("GetChange", "r", "PriorRequestNotComplete", "m"); !strings.Contains(say(wrong), "does not fail with") {
		t.Errorf("an error that is another operation's: %v", wrong)
	}
}

// TestWhenSomethingHappened: Go's regexp does not take the pattern.
func TestWhenSomethingHappened(t *testing.T) {
	s := load(t, "ssm")
	for text, want := range map[string]bool{"2026-11-29T01:02:03.004Z": true, "2026-11-29": true, "yesterday": false, "2026-13-29": false} {
		f := &found{service: s}
		f.check("output", s.Shapes["StringDateTime"], text)
		if (len(f.list) == 0) != want {
			t.Errorf("%s: %v", text, f.list)
		}
	}
}

func TestModelsThatAreMissing(t *testing.T) {
	t.Setenv(DirVariable, t.TempDir())
	if _, err := Load("ssm"); err == nil || !strings.Contains(err.Error(), "apt-get install python3-botocore") {
		t.Errorf("got %v", err)
	}
}
